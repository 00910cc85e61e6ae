-- knbl.results.contract - the form of a ledger, as a JSON Schema: what --json writes, and what is checked where one is
-- read. docs/contract.lua prints it as docs/ledger.schema.json; the tests validate what runs write.
local json = require "knbl.json"
local tests = require "knbl.base.tests"

-- ---- small words ----

local text, flag, number = { type = "string" }, { type = "boolean" }, { type = "number" }
local count, positive = { type = "integer", minimum = 0 }, { type = "number", minimum = 0 }
local share = { type = "number", minimum = 0, maximum = 1 }
local plain = { type = json.array { "string", "number", "boolean" } }

local function about(schema, description)
  local copy = { description = description }
  for key, value in pairs(schema) do copy[key] = value end
  return copy
end

local function ref(name) return { ["$ref"] = "#/$defs/" .. name } end
local function list(item, description) return { type = "array", items = item, description = description } end
local function map(item, description)
  return { type = "object", additionalProperties = item, description = description }
end

local function object(properties, required, description)
  return { type = "object", properties = properties, required = required and json.array(required),
    additionalProperties = false, description = description }
end

local function latency()
  local properties = { count = count }
  for name in ("min mean stddev p50 p90 p95 p99 p999 p9999 max"):gmatch "%S+" do properties[name] = positive end
  return object(properties, { "count" }, "Nanoseconds, of all operations.")
end

-- ---- the parts ----

local parts = {
  time = { type = "string", pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]+Z$" },
  latency = latency(),
  histogram = object({
    count = count, min = count, max = count, sum = about(text, "a whole number, maybe beyond what a double holds"),
      sum_sq = text,
    buckets = list({ type = "array", items = count }, "[bucket, count]; 128 buckets between two powers of two"),
  }, { "count", "buckets" }),
  side = object {
    kind = about(text, "pod, node, service, node_port, external_ip, network, external; targets: several"),
      node = text, runtime = text, address = text,
      port = count, endpoints = list(text),
    handler = about(text, "of the RuntimeClass"), sandbox = about({ type = "object" },
      "how the runtime ran: version, platform, network …"),
    started_ms = about(count, "from its start until it was ready"),
      memory_bytes = about(count, "of the pod then, as its host sees it"),
  },
  estimate = object({ value = number, low = number, high = number, n = { type = "integer", minimum = 1 } },
    { "value", "n" }),
}

parts.path_mtu = object({
  mtu_path = about(count, "bytes with the IP header"), mtu_link = count, mtu_reported = count, black_hole = flag,
  mss = count, mss_works = flag, summary = text,
}, { "mtu_path", "mtu_link", "black_hole", "summary" })

parts.metrics = object({
  value = about(number, "of knbl.metric"),
  effect = about(number, "of a node in a mesh: the relative change, as the verdict has it"),
  throughput_bps = about(positive, "payload at the receiver, bits a second"), send_bps = positive,
    receive_bps = positive, transfer_bps = positive,
  rate_per_s = positive, duration_s = about(positive, "of the window that was counted"), bytes = count, ops = count,
  latency_ns = ref "latency", connect_ns = ref "latency", first_byte_ns = ref "latency",
  handshake_ns = about(ref "latency", "of TLS, after the connect and before the request"),
  sent = count, received = count, lost = count, reordered = count, duplicated = count,
    late = about(count, "answers that came after they had timed out"),
  loss_ratio = share, jitter_ns = about(positive, "RFC 3550"),
    send_drops = about(count, "refused by the sender's own socket, so no part of lost"),
  receiver_drops = about(count, "dropped by the receiver's own socket: a part of lost"),
    client_drops = about(count, "answers that the client's own socket dropped; udp_rr: a part of lost"),
  errors = count, timeouts = count, connects = count, connect_errors = count,
  retransmits = about(count, "segments that TCP sent again"),
    needless_retransmits = about(count, "of those, segments that the receiver had already"),
    resent_ratio = about(positive, "their share of all segments with data"),
  mss_effective = count, rtt_ns = positive, cwnd = positive,
  fairness = about(object { flow_min = count, flow_max = count, jain = positive },
    "operations or bytes of the flow with the fewest, of that with the most; Jain's index, 1 where all have as many"),
  cpu = map(positive, "cores: client_process, server_cgroup, client_node, server_softirq …"),
    memory = map(positive, "bytes"),
  cpu_ns_per_op = positive, cpu_s_per_gb = object { send = positive, recv = positive },
  status = map(count, "http: responses by class"), non_2xx = count, bad_responses = count, length_mismatches = count,
    header_bytes = count,
  failed = object({ connect = count, receive = count, length = count, exceptions = count }, nil, "as ab counts them"),
  time_per_request_ns = object { mean = positive, across_all = positive },
  tls = object({ handshakes = count, resumed = about(count, "of the handshakes"), verified = flag,
    failures = map(count, "handshakes that failed, by cause: name, expired, authority, reset, stalled, protocol") }),
  http2 = object { goaways = about(count, "connections that the server took out of use"),
    refused = about(count, "requests that it did not take, which were sent again") },
  forward = ref "path_mtu", backward = ref "path_mtu",
  lookup = object({
    lookups = count, queries = count, queries_per_lookup = positive, retries = count, truncated = count, empty = count,
    differing = count, alias_loops = count, oversized = count, malformed = count, unexpected = count, late = count,
    reconnects = count, rcodes = map(count, "answers by response code"),
  }),
  intervals = list(object({ t = about(number, "seconds since the window opened"), bps = positive,
    ops_per_s = positive, marks = list(text, "marked in this interval") }, { "t" })),
  attempts = about(count, "probe: that were due in the window"), outages = list(object({ from = positive, to = positive,
    attempts = count, timeout = count, refused = count, reset = count, error = count, status = count },
    { "from", "to", "attempts" }), "probe: failures in a row, in seconds since the window opened; the first 1000"),
  outage_count = count, outage_total = about(positive, "seconds"), outage_longest = about(positive, "seconds"),
  blind = about(positive, "seconds of which the probe knows nothing: it was stopped, throttled or starved itself"),
  refused = count, resets = count, reconnects = count,
  backends = map(object { ops = count, share = share, connections = count, node = text, zone = text, p50 = positive,
    p99 = positive }, "who answered, by name: its part of the operations, or of the connections of a stream"),
  zones = map(share, "where who answered is: shares by zone"),
  targets = map(object({ address = text, asked = about(share, "of the flows and the rate, as asked for"), flows = count,
    ops = count, bytes = about(count, "of a stream, at the receiver"),
    share = about(share, "of the operations, or of the bytes of a stream"), rate_per_s = positive,
    throughput_bps = positive, p50 = positive, p99 = positive, errors = count, timeouts = count,
    connect_errors = count, error = about(text, "why it could not be reached any more") },
    { "address", "asked", "flows", "errors", "timeouts", "connect_errors" }),
    "of a measurement of several targets: each by its name"),
  timeline = object({ step = positive, runs = about(text,
    "run lengths: ok, timeout, refused, x reset, error, h status, blind"), cut = flag }, { "step", "runs" },
    "probe: what became of each attempt; seconds from one to the next"),
  after_mark = map(object { first_ok = positive, last_ok = positive, first_fail = positive, last_fail = positive },
    "probe: seconds from a mark to the first and last success and failure after it"),
  ready = object({ state = { type = "string", enum = json.array { "open", "closed" } }, first = positive,
    last = positive, change = positive }, { "state" },
    "knbl.ready: the state after the change, seconds until it was first seen and the other last (if the change had an \z
      effect), and of the change"),
}, nil, "What was not measured is absent, never 0. Base units: bits, nanoseconds, cores, bytes.")

parts.metric = object({ name = text, unit = text,
  better = { type = "string", enum = json.array { "less", "more" } } }, { "name" }, "what knbl.metric said of it")
parts.source = object { file = text, started = text, scenario = text, provider = text, host = text, kernel = text }

parts.measurement = object({
  test = { enum = json.array { "metric", (table.unpack or unpack)(tests.names) }, type = "string" },
  case = text, from = text, to = text, via = about(text,
    "pod_ip, service, node_port, load_balancer, external_ip, external_name, headless, hairpin, host, network, \z
      loopback, external; of several targets all of theirs, with commas"),
  sized = about(flag, "one of a list of sizes: the size is part of its name"),
  labels = map(plain), round = about({ type = "integer", minimum = 1 }, "which repeat, where there are some"),
  ok = flag, error = object({ code = text, message = text }, { "code", "message" }),
    skipped = about(text, "why it was not done"),
  flags = list(text, "what makes its figures doubtful; docs/reference.md has them all"),
    ceiling = about(positive, "its headline over the sender's loopback"),
  metrics = ref "metrics", params = map(plain, "what was asked, defaults filled in, in base units"),
  chosen = map(plain, "what was best in the warm-up, where it was left to that"),
  servers = list(object({ name = text, node = text, address = text, flows = count, ops = count }, { "name" }),
    "who answered"),
  metric = ref "metric",
  path = object { from = ref "side", to = ref "side", targets = list(object({ name = text, share = share, via = text,
      to = ref "side" }, { "name", "share", "via", "to" }), "where there are several: each with the share asked for") },
    started = ref "time", line = about(text, "of the script"),
    expect = list(text),
  latency_histogram = ref "histogram",
  marks = list(object({ t = number, text = text }, { "t", "text" }),
    "moments that the script marked, in seconds since the window opened"),
  monitor = list({ type = "object" }, "what was watched meanwhile; docs/reference.md has knbl.Monitor"),
  profile = list({ type = "object" }, "stacks that were sampled meanwhile"),
}, { "test", "case", "from", "to", "ok", "flags", "metrics" })

parts.expectation = object({
  test = text, case = text, expression = text, status = { type = "string",
    enum = json.array { "pass", "fail", "inconclusive", "error" } }, reason = text,
  value = number, low = number, high = number, limit = number, p = share, command_line = flag,
}, { "expression", "status" })

parts.comparison = object({
  alpha = share, files = object({ old = count, new = count }, { "old", "new" }),
    sources = object({ old = list(ref "source"), new = list(ref "source") }, nil, "the ledgers of both sides"),
    environments = list(text, "how the two sides differ"), refused = flag,
  comparisons = list(object({
    test = text, case = text, via = text, figure = text, metric = ref "metric",
      old = ref "estimate", new = ref "estimate",
      change = about(number, "relative: 0.1 is 10 % more"),
    difference = about(number, "in its place where a value is 0"), low = number, high = number,
      p = about(share, "Mann-Whitney, two-sided"),
    among = about(count, "of a mesh: alpha is for this number of series together"),
    shown = flag, too_few = flag, verdict = { type = "string",
      enum = json.array { "better", "worse", "differs", "none" } },
  }, { "test", "case", "figure", "old", "new", "p", "shown", "verdict" })),
  not_compared = list(object({ test = text, case = text, reason = text }, { "test", "case", "reason" })),
}, { "alpha", "files", "environments", "comparisons", "not_compared" }, "With --baseline: docs/statistics.md")

parts.report = object({
  title = text, rows = list(text), pivot = text, layout = text, join = flag, lenient = flag, where = map(plain),
    line = text, baseline = plain,
  columns = list(object({ title = text, show = text, test = list(text), where = map(plain), unit = text },
    { "title", "show" })),
}, { "rows", "columns" }, "A table that the scenario declared.")

parts.arm = object({ name = text, text = about(text, "as it was given"), rounds = count, provider = text,
  environment = { type = "object" }, options = map(plain) }, { "name", "text", "rounds" })
parts.command = object({ arm = text, command = text, status = count, output = about(text, "at most 64 KiB"),
  started = ref "time", seconds = positive,
  outages = about(list(ref "outage_meanwhile"), "of knbl change: what probes saw while the command ran") },
  { "arm", "command", "status", "output" })
parts.outage_meanwhile = object({ case = text, total_s = positive, longest_s = positive,
  until_s = about(positive, "from the command's start to the last failure"), error = text }, { "case" })

-- a list of numbers, and of such lists
local numbers_of, rows = { type = "array", items = number }, nil
rows = { type = "array", items = numbers_of }

parts.mesh_outlier = object({
  kind = { type = "string", enum = json.array { "sender", "receiver", "pair", "zone" } }, name = text, from = text,
    to = text, test = text, figure = about(text, "p50, mean, throughput, loss, mtu; reach: its pairs fail"),
  effect = about(number, "the relative change of the figure (-0.38); of a loss, the share lost beyond the usual"),
    low = about(number, "of the 95 % interval"), high = number,
  pairs = about(count, "it was judged by so many"), agree = count,
    expected = about(flag, "of zones: as it is between the others"), text = text,
}, { "kind", "name", "test", "figure", "effect", "text" })

parts.mesh_figure = object({
  figure = text, usual = about(number, "in the figure's base unit"), noise = about(positive,
    "the deviation of one pair's value that nothing explains, of its logarithm"),
  finds = about(positive, "so great a change of a node would have been found with 99 %"),
  partners = about(count, "partners of each node that would find the change asked for, where the mesh had too few"),
  effects = object({ sender = numbers_of, receiver = numbers_of }, nil, "each node's relative change, in their order"),
  worst = list(object { node = text, sender = number, receiver = number, p50 = count, p90 = count, p99 = count,
    p999 = count, max = count }, "the nodes that are worst, with the percentiles of what they measured as clients"),
  cells = about(rows, "the map: [row, column, relative change], numbers of groups"),
}, { "figure", "usual", "noise", "effects" })

parts.mesh = object({
  line = text, round = count, expect = list(text), single = about(flag, "each pair is a measurement too"),
  plan = object { kind = { type = "string", enum = json.array { "all", "sample", "levels" } }, partners = count,
    pairs = count, slots = count, seconds = positive, bytes = count, requests = count, at_once = map(count) },
  cost = object { seconds = positive, requests = count, most_requests = count, throttled = count,
    clock_error_ns = count },
  nodes = list(object({ name = text, zone = text, rack = text }, { "name" })),
  groups = list(object({ name = text, zone = text }, { "name" }), "rows and columns of the maps"),
  missing = list(object({ node = text, reason = text }, { "node", "reason" })),
  sentences = list(text, "the verdict"), unsure = about(text, "why no outlier can be named"), notes = list(text),
  outliers = list(ref "mesh_outlier"), zones = list(ref "mesh_outlier"),
  tests = list(object({ test = text, params = map(plain), usual_mtu = count, figures = list(ref "mesh_figure"),
    pairs = about(rows, "[from, to, figure…], numbers of nodes, figures in their order; pmtu: MTU there and back"),
    failed = list({ type = "array" }, "[from, to, code]") }, { "test", "figures", "pairs", "failed" })),
  histograms = list(object({ node = text, test = text, histogram = ref "histogram" }, { "node", "test", "histogram" }),
    "of the nodes that stand out"),
}, { "plan", "cost", "nodes", "tests", "outliers", "missing", "sentences" }, "Of knbl.mesh: docs/mesh.md")

local schema = object({
  schema = { const = 1 }, knbl = about(text, "the version that wrote it"), started = ref "time", ended = ref "time",
    scenario = text, question = text,
  provider = text, options = map(plain, "the scenario's own"),
  environment = { type = "object", description = "kernel, CPU, MTU, overlay, kube-proxy mode …" },
  tags = map(text, "of --tag"),
  verdict = object({
    status = { type = "string", enum = json.array { "pass", "fail", "inconclusive", "error", "interrupted",
      "running" } }, exit = count, message = text,
    measured = count, failed = count, skipped = count,
  }, { "status" }),
  expectations = list(ref "expectation"), comparison = ref "comparison",
    notes = list { type = json.array { "string", "object" } },
  arms = list(ref "arm", "of knbl ab and knbl change: a measurement has its arm as the label `arm`"),
    commands = list(ref "command", "that knbl ab and knbl change ran"),
  reports = list(ref "report"), meshes = list(ref "mesh"), measurements = list(ref "measurement"),
}, { "schema", "knbl", "started", "verdict", "measurements" },
  "A later version may add members; one that changes what they mean counts the schema up.")

schema["$schema"], schema["$defs"] = "https://json-schema.org/draft/2020-12/schema", parts
schema.title = "The ledger of knbl: all that was asked and measured in a run (--json FILE)"
return schema
