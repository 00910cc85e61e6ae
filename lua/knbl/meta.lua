---@meta knbl
-- What scenarios can use, for editors (LuaCATS annotations) and for docs/reference.md, which docs/reference.lua makes from this file.
-- Nothing here is run.

---@alias knbl.Duration string|number Text with a unit ("10s", "200ms", "1m30s", "50us"), or seconds.
---@alias knbl.Size string|integer Bytes: 64, "64", "4K", "1M" (powers of 1024).
---@alias knbl.Sizes string|knbl.Size[] One size, or a list: "1:256K:*64", "96:1460:+64", "1,64,4K", { 1, 64, "4K" }. A list gives a measurement for each.
---@alias knbl.Rate string|number "20k/s" are operations a second, "1Gbit/s" are bits.
---@alias knbl.End knbl.Node|knbl.Pod|knbl.Service|knbl.NodePort What can be aimed at. Only nodes and pods can send.
---@alias knbl.Via "pod_ip"|"service"|"node_port"|"host"|"hairpin"|"headless"|"loopback"|"external" By which way a measurement went.

---@class knbl
---@field version string The version of this library.
local knbl = {}

-- ## The scenario's own flags

---@class knbl.Option
---@field [1] any The default. Its kind is the flag's: a number, a boolean, a list, or a text with a unit.
---@field [2] string What `--help` says.
---@field kind? "duration"|"size"|"sizes"|"rate"|"count"|"number"|"list"|"text"|"flag" Where the default does not say it.
---@field choices? string[] What is allowed; anything else is refused with the nearest.
---@field value? string What stands for the value in `--help`.

---Declares the scenario's flags and gives their values. `NAME = { DEFAULT, "help" }` becomes `--NAME`; an underscore becomes a dash, a
---boolean a switch with `--no-NAME`. Texts come back as texts, which measurements take as they are; a list of sizes as a table of
---numbers. What is not declared is refused on the command line with the nearest right word. Once a script.
---@param declaration table<string, knbl.Option>
---@return table<string, any> values
function knbl.options(declaration) end

-- ## The cluster

---@class knbl.ClusterOptions
---@field provider? "lab"|"k8s"|"hosts"|"loopback" Where `--on` says nothing. Without both it is the lab.
---@field nodes? integer How many nodes there are.
---@field mtu? integer MTU of the fabric (lab).
---@field pod_mtu? integer MTU of the pods (lab).
---@field overlay? "none"|"vxlan" How nodes reach each other's pods (lab).
---@field families? "dual"|"4"|"6" IP versions (lab).
---@field services? integer How many idle Services there are beside those of the script (lab).
---@field mode? "maps"|"chains" How a node finds a Service: nftables maps, or chains that grow as those of iptables do (lab).
---@field bandwidth? knbl.Rate Limit of each pod (lab).
---@field namespace? string Where pods are made (k8s).
---@field image? string The agent's image (k8s).
---@field cpu? number CPUs of each pod.
---@field memory? string Memory of each pod.
---@field agents? string Labels of agents that stand already, to be used in place of pods (k8s).

---Opens a cluster: a lab of namespaces on this machine, the Kubernetes of your kubeconfig, or hosts where agents run, as `--on` says.
---What only the lab can be told (mtu, overlay, services …) makes all that is measured with it a skipped cell elsewhere.
---Close it with `local cluster <close> = knbl.cluster()`; a script that forgets is helped at its end. Raises where none can be had
---(exit code 3).
---@param options? knbl.ClusterOptions
---@return knbl.Cluster
function knbl.cluster(options) end

---@class knbl.Cluster
---@field name string The provider's name.
---@field kube? table The client of `require "knbl.kube"` for this cluster: get, list, create, apply, patch, delete, watch, logs (k8s).
local Cluster = {}

---n nodes, one value each: `local a, b = cluster:nodes(2)`. Without `n`, all that there are. A node that is not there is a stand-in that
---knows why: what is measured with it is skipped with that reason.
---@param n? integer
---@return knbl.Node ...
function Cluster:nodes(n) end

---The node of that number or name.
---@param which integer|string
---@return knbl.Node
function Cluster:node(which) end

---@class knbl.PodOptions
---@field name? string A DNS label; one is made up where it is missing.
---@field node? knbl.Node|integer|string Where it runs.
---@field runtime? string "runc", "host", "gvisor", "kata" (qemu), "kata-clh", "kata-fc", or the name of a RuntimeClass. One that is not there is skipped with the reason.
---@field image? string An image of your own in place of the agent (k8s); needs `port`. Only http and ping can be aimed at it.
---@field command? string[] What runs in that image; in the lab, which has no images, a program of this machine in place of the agent. Needs `port`.
---@field port? integer The port that it serves, TCP or UDP: it is ready when it answers there.
---@field cpu? number CPUs that it may use.
---@field memory? string Memory that it may use.
---@field mtu? integer MTU of its interface (lab).
---@field bandwidth? knbl.Rate Limit of its interface.
---@field hardened? boolean With the usual filter of system calls (lab).
---@field vm? knbl.VmOptions What the guest of a kata pod is made of (lab); its memory is the pod's `memory` (512M).
---@field annotations? table<string, string> (k8s)
---@field labels? table<string, string> (k8s)
---@field env? table<string, string> (k8s)

---@class knbl.VmOptions
---@field vcpus? integer Virtual CPUs; one for each of the pod's `cpu` where it is not given, at least one.
---@field machine? string "microvm" or "q35" (kata).
---@field offloads? boolean Checksums and segmentation are left to the host (true); kata-fc always does.
---@field join? string How the guest's tap joins the pod's network: "tc", a redirect both ways as kata has it, or "bridge".
---@field kernel? string A kernel of your own in place of the newest in /boot; it takes the modules of that one. But for qemu: ELF, or packed with lz4 or gzip.
---@field initramfs? string In place of the one that is packed for the agent.
---@field boot_timeout? string The time that it has until its agent answers ("60s").

---A pod, with an agent inside unless it has an `image` or `command`.
---@param options? knbl.PodOptions
---@return knbl.Pod
function Cluster:pod(options) end

---@class knbl.PairOptions
---@field same_node? boolean Both on one node.
---@field runtime? string
---@field mtu? integer
---@field bandwidth? knbl.Rate
---@field cpu? number
---@field memory? string

---Two pods named "client" and "server", on two nodes unless asked otherwise.
---@param options? knbl.PairOptions
---@return knbl.Pod client
---@return knbl.Pod server
function Cluster:pair(options) end

---@class knbl.ServicePort
---@field port integer
---@field target? integer The port of the endpoints; theirs where it is not given.
---@field protocol? "tcp"|"udp"|"both" both
---@field node_port? integer For a NodePort; one is made up where it is missing.
---@field name? string

---@class knbl.ServiceOptions
---@field name? string
---@field type? "ClusterIP"|"NodePort"
---@field headless? boolean No address of its own: the name stands for its pods, of which the first is measured.
---@field affinity? boolean|"ClientIP"|"None" A client stays with its endpoint.
---@field external_traffic_policy? "Cluster"|"Local" Of a NodePort. Local: who comes from outside meets endpoints of that node alone, with his own address.
---@field port? integer Its one port, TCP and UDP, where it is not that of its endpoints.
---@field ports? (integer|knbl.ServicePort)[] Several; the first is the one that is measured.
---@field endpoints? (knbl.Pod|knbl.Node)[] Who answers; for cluster:service only, which also takes them as a list: `cluster:service { a, b }`.

---A Service over several pods or nodes.
---@param options knbl.ServiceOptions
---@return knbl.Service
function Cluster:service(options) end

---Makes an object of Kubernetes that belongs to the run: a NetworkPolicy, a ConfigMap. It is labelled, owned and removed with all else.
---Where the cluster is no Kubernetes: nil and the reason.
---@param object table With its apiVersion, kind and, if it shall have a name of its own, metadata.name.
---@return table? made
---@return string? reason
function Cluster:create(object) end

---Removes a pod or a Service before the cluster goes.
---@param thing knbl.Pod|knbl.Service
function Cluster:delete(thing) end

---Removes all that the cluster made. Harmless when repeated.
function Cluster:close() end

---@class knbl.Node A machine of the cluster. As `from` and `to` it stands for its host network.
---@field name string
---@field skip? string Why it cannot be had.
local Node = {}

---A Service whose endpoint is the node.
---@param options? knbl.ServiceOptions
---@return knbl.Service
function Node:service(options) end

---Runs a program of your own there and waits for its end (lab; elsewhere nil and the reason): `local text, status = node:exec { "iperf3", "-v" }`.
---@param argv string[] The program and its arguments; no shell reads them.
---@return string? output What it wrote to its standard output and error, 1 MiB at most.
---@return integer|string status Its exit status; without an output the reason.
function Node:exec(argv) end

---@class knbl.Pod
---@field name string
---@field node knbl.Node
---@field runtime? string
---@field label? string its runtime as a table should name it: "gvisor, ptrace", "kata (qemu 7.2, emulated)"; on Kubernetes with its handler, where that is called otherwise
---@field addresses table<"v4"|"v6", string>
---@field skip? string Why it cannot be had.
local Pod = {}

---A Service over this pod alone.
---@param options? knbl.ServiceOptions
---@return knbl.Service
function Pod:service(options) end

---Runs a program of your own there and waits for its end (lab; elsewhere nil and the reason): `local text, status = pod:exec { "iperf3", "-v" }`.
---@param argv string[] The program and its arguments; no shell reads them.
---@return string? output What it wrote to its standard output and error, 1 MiB at most.
---@return integer|string status Its exit status; without an output the reason.
function Pod:exec(argv) end

---@class knbl.Service
---@field name string
---@field addresses table<"v4"|"v6", string>
---@field port integer
---@field node_port? integer
---@field skip? string Why it cannot be had.
local Service = {}

---The Service's NodePort at that node's address; for a Service of type "NodePort".
---@param node knbl.Node|integer|string
---@return knbl.NodePort
function Service:on(node) end

---@class knbl.NodePort
---@field name string

-- ## Measurements

---@class knbl.Ask What a measurement is told. Keys that a test does not have are refused; so are unknown ones, with the nearest.
---@field case? string What it is called in tables and expectations. Without it: the combination of the matrix, or "from > to".
---@field from knbl.Node|knbl.Pod Who sends.
---@field to knbl.End|string Who answers. For http and ping also a URL or address outside of the cluster.
---@field expect? string|string[] What must hold: "p99 < 1ms", "throughput > 0.9x baseline", '"pod to svc" / "pod to pod" < 1.1'.
---@field labels? table<string, string|number> What rows and columns of a report can be made of. A matrix gives its own.
---@field monitor? boolean false: do not watch CPU, memory and counters of both sides and their nodes meanwhile.
---@field profile? boolean|integer Sample where the CPUs of both nodes spend their time meanwhile; a number: so often a second, in place of 99.
---@field duration? knbl.Duration How long to measure, warm-up not counted.
---@field warmup? knbl.Duration How long to run before the measurement begins.
---@field interval? knbl.Duration Step of the time series; for ping the time from one echo to the next.
---@field count? integer Operations to do, over all flows; with a duration, what ends first. http: also `requests`.
---@field flows? integer Connections at the same time. http: also `connections`.
---@field threads? integer Threads that drive them.
---@field size? knbl.Sizes Bytes of a message, request or datagram.
---@field response? knbl.Size Bytes of a response.
---@field burst? integer Requests outstanding at once on a flow.
---@field rate? knbl.Rate Open loop: operations or bits a second over all flows. Latency counts from when an operation was due.
---@field every? knbl.Duration ping: time from one echo to the next; `interval` says the same.
---@field ip? 4|6 IP version.
---@field mss? knbl.Size Largest segment to ask for; the result has the effective one.
---@field sndbuf? knbl.Size Send buffer of each socket.
---@field rcvbuf? knbl.Size Receive buffer of each socket.
---@field nodelay? boolean Do not wait for more to send.
---@field reverse? boolean The server sends.
---@field bidir? boolean Both sides send at the same time.
---@field zerocopy? boolean Send with MSG_ZEROCOPY.
---@field gso? boolean UDP: segmentation offload when sending, coalescing when receiving.
---@field wait? "block"|"auto"|"spin" How to wait for data.
---@field tune? "plain"|"auto" System calls as other tools make them, or what was fastest in the warm-up.
---@field fin? boolean tcp_crr: the FIN rides on the data.
---@field timeout? knbl.Duration After which an operation or a connect has failed.
---@field delay? knbl.Duration The server waits so long before each response.
---@field keepalive? boolean http: several requests on a connection.
---@field body? knbl.Size http: bytes of the agent's response.
---@field external? boolean http: the target is a server of its own.
---@field cc? string Congestion control.
---@field path? string http: path to request.
---@field host? string http: Host header.

---@class knbl.Result What a measurement gave; the same is in the file of --json.
---@field ok boolean
---@field error? { code: string, message: string } Why it failed.
---@field skipped? string Why it was not done.
---@field test string
---@field case string
---@field from string
---@field to string
---@field via knbl.Via
---@field params table What was asked, defaults filled in, in base units.
---@field metrics knbl.Metrics
---@field flags string[] Why a figure is doubtful.
---@field monitor? knbl.Monitor[] What was watched meanwhile: client, servers, and the nodes that have agents of their own.
---@field profile? knbl.Profile[] Where the CPUs of each machine spent their time, where that was asked for; see docs/profiles.md.
---@field ceiling? number What the sender's headline figure is over its own loopback: of measurements from 5 s on, of all with --ceiling, of none with --no-ceiling.

---@class knbl.Monitor Lists over time, an entry for each interval. A number in place of a list: it was that all the time. What cannot be read is absent.
---@field name string The pod's or node's.
---@field kind "pod"|"node"|string
---@field side "client"|"server"|"both"
---@field machine? string The kernel's boot id. Who shares one shares CPUs and memory, which then stand with one of them.
---@field from? number When it began, in seconds from the opening of the client's window: before it, so negative.
---@field t number[] Where each interval ends, in seconds from that.
---@field cpu? { user: table, system: table, softirq: table, steal: table, idle: table } A list for each core: shares of its time.
---@field memory? { available: integer[], total: integer } Bytes of the machine.
---@field process? { cpu: number[], memory: integer[] } Of the agent: cores, bytes.
---@field cgroup? { cpu: number[], memory: integer[], throttled: integer[], throttled_s: number[], quota: number }
---@field interfaces? table<string, table> Those that carried something: rx_bytes_per_s, tx_packets_per_s, rx_drops, tx_errors …
---@field tcp? table segments, retransmits, timeouts, listen_drops, backlog_drops, sockets, time_wait; memory in bytes, of the machine.
---@field udp? table receive_drops, send_drops; memory in bytes, of the machine.
---@field clock? { late_s: number, jumped_s: number, asleep_s: number } The longest that the agent was not run; how far the clock jumped; sleep.
---@field softnet? { drops: integer[], squeezed: integer[] } The machine's.
---@field conntrack? { entries: integer[], max: integer, drops: integer[] }

---@class knbl.Profile Stacks of a machine, folded into a tree: node i (from 1) hangs below node parents[i]; 0 is the root.
---@field name string The node's; "this machine" where all is on one.
---@field error? { code: string, message: string } Why there is none, and what would allow it. Then nothing else is there.
---@field event "cycles"|"cpu-clock" What took the samples.
---@field hz integer Samples a second on each CPU.
---@field cpus integer
---@field duration_s number How long it was sampled.
---@field busy_s? number CPU time that the samples of busy CPUs stand for.
---@field samples integer All that were taken.
---@field idle integer Those of them that found a CPU idle; they are not in the tree.
---@field lost integer Samples that could not be kept up with.
---@field cut number The share of busy samples that small branches were cut from; they count for the node above.
---@field frames string[] Names: of processes, of functions of the kernel and of programs.
---@field kinds string A letter for each of the frames: process, kernel, user.
---@field parents integer[]
---@field names integer[] The frame of each node, from 0 on.
---@field counts number[] Samples in which a node was on top.
---@field missing? string[] What could not be named, and what would allow it.

---@class knbl.Latency
---@field count integer
---@field min number
---@field mean number
---@field stddev number
---@field p50 number
---@field p90 number
---@field p95 number
---@field p99 number
---@field p999 number
---@field p9999 number
---@field max number

---@class knbl.Metrics What was not measured is absent, never 0.
---@field throughput_bps? number
---@field rate_per_s? number
---@field latency_ns? knbl.Latency
---@field loss_ratio? number
---@field sent? integer
---@field received? integer
---@field reordered? integer
---@field duplicated? integer
---@field jitter_ns? number
---@field errors? integer
---@field timeouts? integer
---@field retransmits? integer Segments that TCP sent again.
---@field resent_ratio? number Their share of all segments that carried data.
---@field mss_effective? integer
---@field cpu? table<string, number> Cores: client_process, server_process, client_node …; in the lab client_sandbox: all of the pod, by its host. Cgroups need 10 ms, nodes 50.
---@field memory? table<string, number> Bytes: client_process, server_process …; in the lab client_sandbox, server_sandbox
---@field cpu_ns_per_op? number
---@field cpu_s_per_gb? { send: number, recv: number } Not with bidir, where each end does both.
---@field duration_s? number
---@field intervals? table[] Over time, from the warm-up's end: { t, bps, ops_per_s }; with bidir of both directions together.
---@field step? { t: number, before: number, after: number } Where the series changed its level, from what and to what.

---Bulk TCP.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.tcp_stream(ask) end

---Bulk TCP out of a file by sendfile.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.tcp_sendfile(ask) end

---Bulk datagrams, as fast as possible or at a rate; loss, order and jitter counted by the receiver.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.udp_stream(ask) end

---Request and response over a TCP connection.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.tcp_rr(ask) end

---Request and response by UDP.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.udp_rr(ask) end

---Connect, request, response, close.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.tcp_crr(ask) end

---Bandwidth as qperf measures it. A list of sizes gives a list of results, whose `ok` says that all went well.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.tcp_bw(ask) end

---Latency as qperf measures it: half a round trip.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.tcp_lat(ask) end

---HTTP/1.1 load, as ab and wrk make it.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.http(ask) end

---ICMP echo.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.ping(ask) end

-- ## Combinations, tables, notes

---All combinations of some values; the last name changes fastest. `{ NAME, VALUE… }` for each, and `repeats`, which `--repeats`
---overrides: a repeat is a whole round over all combinations. A combination has its values by name, and `round`. What is measured in the
---loop is labelled with it: a table among the values by its `name` or its first text.
---@param rows table
---@return fun(): table?
function knbl.matrix(rows) end

---Several measurements at the same time: each a table as a verb takes it, with its `test`. Their results, in the same order.
---@param list table[]
---@return knbl.Result[]
function knbl.together(list) end

---The rounds in which everyone of n meets everyone else once and nobody takes part twice: n - 1 for an even n, n for an odd one.
---@param n integer
---@return integer[][][]
function knbl.rounds(n) end

---@class knbl.Column
---@field [1]? string The title; without it the figure's.
---@field [2]? string The figure, where `show` is not given.
---@field show? string The figure.
---@field test? string|string[] Only from these tests.
---@field where? table<string, any> Only from measurements with these labels or parameters.
---@field unit? "B/s"|"bit/s"|"Mbit/s"|"Gbit/s"|"ms"|"us"|"ns" In place of the figure's own.

---@class knbl.Report
---@field rows? string|string[] What a row is: a label, test, case, from, to, via, a parameter, load (open or closed loop) or start (cold or warm). Default: case.
---@field columns? string|(string|knbl.Column)[] A key: one column for each of its values. Or columns one by one.
---@field show? string|(string|knbl.Column)[] What the cells show, where `columns` is a key.
---@field title? string
---@field test? string|string[] Only these tests.
---@field where? table<string, any> Only measurements with these labels or parameters.
---@field unit? string As a column's; of several figures for those that it fits.
---@field join? boolean Several figures share one cell.
---@field baseline? string|number One of the values of rows or columns: all others show how far they are from it, as "(+37 %)".
---@field layout? "table"|"sweep" sweep: the CSV of the Kubernetes network benchmark, the maximum first.

---The closing table; several may be declared. Without any, a plain one comes for each kind of test.
---@param report knbl.Report
function knbl.report(report) end

---What the script found out itself: into the ledger, and under the tables.
---@param note string|table
function knbl.note(note) end

return knbl
