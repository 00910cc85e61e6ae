-- knbl.contract - the form of a ledger, as a JSON Schema: what --json writes, and what is checked where one is read. docs/contract.lua prints it
-- as docs/ledger.schema.json; the tests validate what runs write.
local json = require "knbl.json"

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
local function map(item, description) return { type = "object", additionalProperties = item, description = description } end

local function object(properties, required, description)
  return { type = "object", properties = properties, required = required and json.array(required), additionalProperties = false, description = description }
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
    count = count, min = count, max = count, sum = about(text, "a whole number, maybe beyond what a double holds"), sum_sq = text,
    buckets = list({ type = "array", items = count }, "[bucket, count]; 128 buckets between two powers of two"),
  }, { "count", "buckets" }),
  side = object {
    kind = about(text, "pod, node, service, node_port, external"), node = text, runtime = text, address = text, port = count, endpoints = list(text),
    handler = about(text, "of the RuntimeClass"), sandbox = about({ type = "object" }, "how the runtime ran: version, platform, network …"),
    started_ms = about(count, "from its start until it was ready"), memory_bytes = about(count, "of the pod then, as its host sees it"),
  },
  estimate = object({ value = number, low = number, high = number, n = { type = "integer", minimum = 1 } }, { "value", "n" }),
}

parts.metrics = object({
  throughput_bps = about(positive, "payload at the receiver, bits a second"), send_bps = positive, receive_bps = positive, transfer_bps = positive,
  rate_per_s = positive, duration_s = about(positive, "of the window that was counted"), bytes = count, ops = count,
  latency_ns = ref "latency", connect_ns = ref "latency", first_byte_ns = ref "latency",
  sent = count, received = count, lost = count, reordered = count, duplicated = count, late = about(count, "answers that came after they had timed out"),
  loss_ratio = share, jitter_ns = about(positive, "RFC 3550"), send_drops = about(count, "refused by the sender's own socket, so no part of lost"),
  receiver_drops = about(count, "dropped by the receiver's own socket: a part of lost"),
  errors = count, timeouts = count, connects = count, connect_errors = count,
  retransmits = about(count, "segments that TCP sent again"), resent_ratio = about(positive, "their share of all segments with data"),
  mss_effective = count, rtt_ns = positive, cwnd = positive,
  cpu = map(positive, "cores: client_process, server_cgroup, client_node, server_softirq …"), memory = map(positive, "bytes"),
  cpu_ns_per_op = positive, cpu_s_per_gb = object { send = positive, recv = positive },
  status = map(count, "http: responses by class"), non_2xx = count, bad_responses = count, length_mismatches = count, header_bytes = count,
  failed = object({ connect = count, receive = count, length = count, exceptions = count }, nil, "as ab counts them"),
  time_per_request_ns = object { mean = positive, across_all = positive },
  intervals = list(object({ t = about(number, "seconds since the window opened"), bps = positive, ops_per_s = positive }, { "t" })),
}, nil, "What was not measured is absent, never 0. Base units: bits, nanoseconds, cores, bytes.")

parts.measurement = object({
  test = { enum = json.array { "tcp_stream", "tcp_sendfile", "udp_stream", "tcp_rr", "udp_rr", "tcp_crr", "tcp_bw", "tcp_lat", "http", "ping" }, type = "string" },
  case = text, from = text, to = text, via = about(text, "pod_ip, service, node_port, headless, hairpin, host, loopback, external"),
  labels = map(plain), round = about({ type = "integer", minimum = 1 }, "which repeat, where there are some"),
  ok = flag, error = object({ code = text, message = text }, { "code", "message" }), skipped = about(text, "why it was not done"),
  flags = list(text, "what makes its figures doubtful; docs/reference.md has them all"), ceiling = about(positive, "its headline over the sender's loopback"),
  metrics = ref "metrics", params = map(plain, "what was asked, defaults filled in, in base units"),
  chosen = map(plain, "what was best in the warm-up, where it was left to that"),
  servers = list(object({ name = text, node = text, address = text, flows = count, ops = count }, { "name" }), "who answered"),
  path = object { from = ref "side", to = ref "side" }, started = ref "time", line = about(text, "of the script"), expect = list(text),
  latency_histogram = ref "histogram", connect_histogram = ref "histogram", first_byte_histogram = ref "histogram",
  monitor = list({ type = "object" }, "what was watched meanwhile; docs/reference.md has knbl.Monitor"), meter = { type = "object" },
  profile = list({ type = "object" }, "stacks that were sampled meanwhile"),
}, { "test", "case", "from", "to", "ok", "flags", "metrics" })

parts.expectation = object({
  test = text, case = text, expression = text, status = { type = "string", enum = json.array { "pass", "fail", "inconclusive", "error" } }, reason = text,
  value = number, low = number, high = number, limit = number, p = share, command_line = flag,
}, { "expression", "status" })

parts.comparison = object({
  alpha = share, files = object({ old = count, new = count }, { "old", "new" }), environments = list(text, "how the two sides differ"), refused = flag,
  comparisons = list(object({
    test = text, case = text, via = text, figure = text, old = ref "estimate", new = ref "estimate", change = about(number, "relative: 0.1 is 10 % more"),
    difference = about(number, "in its place where a value is 0"), low = number, high = number, p = about(share, "Mann-Whitney, two-sided"),
    shown = flag, too_few = flag, verdict = { type = "string", enum = json.array { "better", "worse", "differs", "none" } },
  }, { "test", "case", "figure", "old", "new", "p", "shown", "verdict" })),
  not_compared = list(object({ test = text, case = text, reason = text }, { "test", "case", "reason" })),
}, { "alpha", "files", "environments", "comparisons", "not_compared" }, "With --baseline: docs/statistics.md")

parts.report = object({
  title = text, rows = list(text), pivot = text, layout = text, join = flag, lenient = flag, where = map(plain), line = text, baseline = plain,
  columns = list(object({ title = text, show = text, test = list(text), where = map(plain), unit = text }, { "title", "show" })),
}, { "rows", "columns" }, "A table that the scenario declared.")

local schema = object({
  schema = { const = 1 }, knbl = about(text, "the version that wrote it"), started = ref "time", ended = ref "time", scenario = text, question = text,
  provider = text, options = map(plain, "the scenario's own"),
  environment = { type = "object", description = "kernel, CPU, MTU, overlay, kube-proxy mode …" },
  verdict = object({
    status = { type = "string", enum = json.array { "pass", "fail", "inconclusive", "error", "interrupted", "running" } }, exit = count, message = text,
    measured = count, failed = count, skipped = count,
  }, { "status" }),
  expectations = list(ref "expectation"), comparison = ref "comparison", notes = list { type = json.array { "string", "object" } },
  reports = list(ref "report"), measurements = list(ref "measurement"),
}, { "schema", "knbl", "started", "verdict", "measurements" }, "A later version may add members; one that changes what they mean counts the schema up.")

schema["$schema"], schema["$defs"] = "https://json-schema.org/draft/2020-12/schema", parts
schema.title = "The ledger of knbl: all that was asked and measured in a run (--json FILE)"
return schema
