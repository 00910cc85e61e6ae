---@meta knbl
-- What scenarios can use, for editors (LuaCATS annotations) and for docs/reference.md, which docs/reference.lua makes
-- from this file. None of it runs.

---@alias knbl.Duration string|number Text with a unit ("10s", "200ms", "1m30s", "50us"), or seconds.
---@alias knbl.Size string|integer Bytes: 64, "64", "4K", "1M" (powers of 1024).
---One size, or a list: "1:256K:*64", "96:1460:+64", "1,64,4K", { 1, 64, "4K" }. A list measures each size.
---@alias knbl.Sizes string|knbl.Size[]
---@alias knbl.Rate string|number Operations per second ("20k/s") or bits per second ("1Gbit/s").
---What a measurement can be aimed at. Only nodes and pods can send.
---@alias knbl.End knbl.Node|knbl.Pod|knbl.Service|knbl.NodePort|knbl.PodNetwork
---The way that a measurement took.
---@alias knbl.Via "pod_ip"|"service"|"node_port"|"host"|"hairpin"|"headless"|"loopback"|knbl.ViaOther|knbl.ViaOutside
---@alias knbl.ViaOther "network"|"external" A secondary network of the pod; a target outside of the cluster.
---@alias knbl.ViaOutside "load_balancer"|"external_ip"|"external_name"

---@class knbl
---@field version string The version of this library.
local knbl = {}

-- ## The scenario's own options

---@class knbl.Option
---@field [1] any The default. It decides the kind of the option: a number, a boolean, a list, or a string with a unit.
---@field [2] string The text of `--help`.
---The kind, where the default does not tell it.
---@field kind? "duration"|"size"|"sizes"|"rate"|"count"|"number"|"list"|"text"|"flag"
---@field choices? string[] The values that are allowed; an error for any other suggests the nearest.
---@field value? string The placeholder of the value in `--help`.

---Declares the scenario's options and returns their values. `NAME = { DEFAULT, "help" }` becomes `--NAME`; an
---underscore becomes a dash; a boolean becomes a switch with `--no-NAME`. Strings are returned as strings, which
---measurements accept; a list of sizes is returned as a table of numbers. An option that is not declared is an error,
---which suggests the nearest. Call it once.
---@param declaration table<string, knbl.Option>
---@return table<string, any> values
function knbl.options(declaration) end

-- ## The cluster

---@class knbl.ClusterOptions
---@field provider? "lab"|"k8s"|"hosts"|"loopback" Unless `--on` names one. Default: lab, in LuaJIT loopback.
---@field nodes? integer How many nodes.
---@field mtu? integer MTU of the fabric (lab).
---@field pod_mtu? integer MTU of the pods (lab).
---@field overlay? "none"|"vxlan" How nodes reach each other's pods (lab).
---@field families? "dual"|"4"|"6" IP versions (lab).
---@field services? integer How many idle Services exist besides those of the script (lab).
---How nodes look up Services: nftables maps, or chains that grow as those of iptables do (lab).
---@field mode? "maps"|"chains"
---@field zones? integer Zones that the nodes are dealt to in turn, by their label (lab).
---@field racks? integer Racks of each zone (lab).
---@field bandwidth? knbl.Rate Limit of each pod's interface.
---How packets between nodes are encrypted. Where that is not possible, or the cluster does it otherwise, everything
---is skipped with the reason.
---@field encryption? "none"|"wireguard"|"wireguard-go"|"ipsec"
---@field namespace? string Where pods are made (k8s).
---@field image? string The agent's image (k8s).
---@field cpu? number CPUs of each pod.
---@field memory? string Memory of each pod.
---@field agents? string Labels of agents that already run, used in place of new pods (k8s).

---Opens a cluster, as `--on` says: a lab of namespaces on this machine, the Kubernetes cluster of your kubeconfig, or
---hosts where agents run. With an option that only the lab has (mtu, overlay, services …), measurements elsewhere are
---skipped. Close it with `local cluster <close> = knbl.cluster()`; otherwise it is closed when the script ends. Raises
---an error where no cluster is available (exit code 3).
---@param options? knbl.ClusterOptions
---@return knbl.Cluster
function knbl.cluster(options) end

---One machine as an end beside those of a cluster: from a pod to it (egress), from it to a NodePort (ingress).
---`"ssh:user@h"` copies the agent there over ssh, `"hosts:10.0.0.1"` uses the one that runs there. Raises an error if
---it cannot be reached.
---@param where string
---@return knbl.Node
function knbl.host(where) end

---@class knbl.Cluster
---@field name string The provider's name.
---The client of `require "knbl.kube"` for this cluster: get, list, create, apply, patch, delete, watch, logs (k8s).
---@field kube? table
local Cluster = {}

---Returns n nodes, one value each: `local a, b = cluster:nodes(2)`. Without `n`, all nodes. A node that does not exist
---is a stand-in: measurements with it are skipped, with the reason.
---@param n? integer
---@return knbl.Node ...
function Cluster:nodes(n) end

---Returns the node with that number or name.
---@param which integer|string
---@return knbl.Node
function Cluster:node(which) end

---@class knbl.PodOptions
---@field name? string A DNS label. Default: a name of its own.
---@field node? knbl.Node|integer|string Where it runs.
---"runc", "host", "gvisor", "kata", or the name of a RuntimeClass. Measurements with one that is not available are
---skipped, with the reason.
---@field runtime? string
---An image of your own in place of the agent (k8s); requires `port`. Only http, dns and ping can measure it.
---@field image? string
---The program that runs in that image; in the lab, which has no images, a program of this machine in place of the
---agent. Requires `port`.
---@field command? string[]
---@field port? integer The port that it listens on, TCP or UDP. The pod is ready when it answers there.
---@field cpu? number CPUs that it may use.
---@field memory? string Memory that it may use.
---@field mtu? integer MTU of its interface (lab).
---@field bandwidth? knbl.Rate Limit of its interface.
---@field hardened? boolean With the default seccomp profile (lab).
---@field vm? knbl.VmOptions The virtual machine of a kata pod (lab). Its memory is the pod's `memory` (512M).
---Secondary networks: names as in the annotation of Multus, `[NAMESPACE/]NAME[@INTERFACE]`. In the lab each is a link
---between all nodes; interfaces are net1, net2, … unless named. On Kubernetes requires Multus.
---@field networks? string[]
---@field annotations? table<string, string> (k8s)
---@field labels? table<string, string> (k8s)
---@field env? table<string, string> (k8s)

---@class knbl.VmOptions
---@field vcpus? integer Virtual CPUs. Default: one for each of the pod's `cpu`, at least one.
---@field machine? string "microvm" or "q35" (kata).
---@field offloads? boolean Leave checksums and segmentation to the host (true).
---How the guest's tap joins the pod's network: "tc", a redirect in both directions as in kata, or "bridge".
---@field join? string
---A kernel of your own in place of the newest in /boot, with that one's modules.
---@field kernel? string
---@field initramfs? string In place of the one built for the agent.
---@field boot_timeout? string Time until its agent must answer ("60s").

---Makes a pod. An agent runs in it unless it has an `image` or `command`.
---@param options? knbl.PodOptions
---@return knbl.Pod
function Cluster:pod(options) end

---Makes several pods. On Kubernetes they start side by side, up to 50 at a time.
---@param list knbl.PodOptions[]
---@return knbl.Pod[]
function Cluster:pods(list) end

---@class knbl.PairOptions
---@field same_node? boolean Both on one node.
---@field runtime? string
---@field mtu? integer
---@field bandwidth? knbl.Rate
---@field cpu? number
---@field memory? string

---Makes two pods named "client" and "server", on two nodes unless `same_node` is set.
---@param options? knbl.PairOptions
---@return knbl.Pod client
---@return knbl.Pod server
function Cluster:pair(options) end

---@class knbl.ServicePort
---@field port integer
---@field target? integer The port of the endpoints. Default: the one that they listen on.
---@field protocol? "tcp"|"udp"|"both" Default: both.
---@field node_port? integer For a NodePort. Default: a free one.
---@field name? string

---@class knbl.ServiceOptions
---@field name? string
---LoadBalancer: measured at the address in its status, which is waited for; in the lab, knbl gives it one. On
---Kubernetes its ports are TCP, unless they say otherwise.
---ExternalName: a name of the cluster for `external_name`, without endpoints (k8s).
---@field type? "ClusterIP"|"NodePort"|"LoadBalancer"|"ExternalName"
---@field headless? boolean No address of its own: the name resolves to its pods. The first is measured.
---@field affinity? boolean|"ClientIP"|"None" Whether a client stays with its endpoint.
---Of a NodePort or a LoadBalancer. Local: clients from outside reach endpoints on that node only, and keep their
---address.
---@field external_traffic_policy? "Cluster"|"Local"
---@field port? integer Its port, TCP and UDP. Default: that of its endpoints.
---@field ports? (integer|knbl.ServicePort)[] Several ports. The first is measured.
---Addresses at which every node takes traffic for it: `service:external_ip(1)`. On Kubernetes kube-proxy decides
---whether pods reach them.
---@field external_ips? string[]
---@field external_name? string The host name outside of the cluster that an ExternalName stands for.
---@field wait? knbl.Duration How long a LoadBalancer may take to get an address. Default: 60s.
---The pods or nodes behind it; for cluster:service only, which also takes them as a list: `cluster:service { a, b }`.
---@field endpoints? (knbl.Pod|knbl.Node)[]

---Makes a Service over several pods or nodes.
---@param options knbl.ServiceOptions
---@return knbl.Service
function Cluster:service(options) end

---Makes a Kubernetes object that belongs to the run, such as a NetworkPolicy or a ConfigMap. It is labelled, owned and
---removed at the end. Returns nil and the reason where the cluster is not Kubernetes.
---@param object table With its apiVersion, kind and, for a name of its own, metadata.name.
---@return table? made
---@return string? reason
function Cluster:create(object) end

---@class knbl.PolicyOptions
---The pods that it selects. From then on they let in only what one of their policies names.
---@field to knbl.Pod|knbl.Pod[]
---What it lets in: pods, nodes and ranges of addresses ("10.0.0.0/8"). Default: nothing.
---@field from? (knbl.Pod|knbl.Node|string)|(knbl.Pod|knbl.Node|string)[]
---@field copies? integer So many of the same policy, to find out what many cost. Default: 1.
---@field name? string

---@class knbl.Policy
---@field name string
---@field copies integer

---Makes a policy: which new connections pods let in. On Kubernetes it is a NetworkPolicy, which has an effect only if
---the cluster's network enforces them; in the lab nftables rules on the pods' nodes, as policy engines write them. What
---a node sends to its own pods always passes. Returns nil and the reason elsewhere. `cluster:delete` removes it.
---@param options knbl.PolicyOptions
---@return knbl.Policy? policy
---@return string? reason
function Cluster:policy(options) end

---Removes a pod, a Service or a policy before the cluster is closed. A pod leaves the Services that it is behind.
---@param thing knbl.Pod|knbl.Service|knbl.Policy
function Cluster:delete(thing) end

---Removes everything that the cluster made. Harmless when repeated.
function Cluster:close() end

---@class knbl.Node A machine of the cluster. As `from` and `to` it means its host network.
---@field name string
---@field skip? string Why it is not available.
local Node = {}

---Makes a Service whose endpoint is the node.
---@param options? knbl.ServiceOptions
---@return knbl.Service
function Node:service(options) end

---Runs a program of your own there and waits for its end: `local text, status = node:exec { "iperf3", "-v" }`. Only in
---the lab; elsewhere it returns nil and the reason.
---@param argv string[] The program and its arguments; no shell is involved.
---@return string? output Its standard output and error, at most 1 MiB.
---@return integer|string status Its exit status, or the reason where output is nil.
function Node:exec(argv) end

---@class knbl.Pod
---@field name string
---@field node knbl.Node
---@field runtime? string
---Its runtime as tables name it: "gvisor, ptrace", "kata (qemu 7.2, emulated)"; on Kubernetes with its handler, where
---that has another name.
---@field label? string
---@field addresses table<"v4"|"v6", string>
---@field skip? string Why it is not available.
local Pod = {}

---Makes a Service over this pod alone.
---@param options? knbl.ServiceOptions
---@return knbl.Service
function Pod:service(options) end

---Returns the pod at its address on a secondary network. As `from`, the client sends from that address. On Kubernetes
---the address is read from the pod's annotation `k8s.v1.cni.cncf.io/network-status`, which Multus writes; it is an
---error if the pod has none.
---@param network string The name of the network or of the interface.
---@return knbl.PodNetwork
function Pod:on(network) end

---Runs a program of your own there and waits for its end: `local text, status = pod:exec { "iperf3", "-v" }`. Only in
---the lab; elsewhere it returns nil and the reason.
---@param argv string[] The program and its arguments; no shell is involved.
---@return string? output Its standard output and error, at most 1 MiB.
---@return integer|string status Its exit status, or the reason where output is nil.
function Pod:exec(argv) end

---@class knbl.Service
---@field name string
---@field addresses table<"v4"|"v6", string>
---@field port integer
---@field node_port? integer
---@field skip? string Why it is not available.
local Service = {}

---Returns the NodePort at that node's address, for a Service of type "NodePort" or "LoadBalancer".
---@param node knbl.Node|integer|string
---@return knbl.NodePort
function Service:on(node) end

---Returns the Service at one of its `external_ips`, by number (default: 1) or address.
---@param which? integer|string
---@return knbl.NodePort
function Service:external_ip(which) end

---@class knbl.NodePort
---@field name string

---@class knbl.PodNetwork
---@field name string "POD@NETWORK"
---@field pod knbl.Pod
---@field addresses table<"v4"|"v6", string>

-- ## Measurements

---The options of a measurement. A key that does not apply to the test is an error; so is an unknown key, with the
---nearest one.
---@class knbl.Ask
---Its name in tables and expectations, or a combination that knbl.matrix gives. Default: the combination, or "from >
---to".
---@field case? string|table
---@field from knbl.Node|knbl.Pod|knbl.PodNetwork What sends.
---What answers. For http, dns, ping and probe also a URL or address outside of the cluster. A list: several targets in
---one measurement, each with its share of the flows, the rate and the count; `metrics.targets` has the figures of each.
---For tests with `flows`. All must be agents or none, and of one IP version; each has threads of its own.
---@field to knbl.End|string|(knbl.End|string)[]
---Of several targets, a positive number for each: { 70, 20, 10 }. Default: equal shares.
---@field shares? number[]
---Conditions on the figures: "p99 < 1ms", "throughput > 0.9x baseline", '"pod to svc" / "pod to pod" < 1.1'.
---@field expect? string|string[]
---Names and values that rows and columns of a report can be made of. A matrix adds its own.
---@field labels? table<string, string|number>
---Why it is not to be measured here: nothing is sent, and tables show the reason.
---@field skip? string
---false: do not record CPU, memory and counters of both sides and their nodes during the measurement.
---@field monitor? boolean
---Sample where the CPUs of both nodes spend their time. A number: samples per second, in place of 99.
---@field profile? boolean|integer
---The script's own code, which runs while the measurement goes on. It may use cluster.kube, pods' exec and os.execute.
---It must return before `duration` is over (60s, unless given). An error in it ends the measurement.
---@field during? fun(mark: knbl.Mark)
---End the measurement so long after `during` has returned. Default: 5s if `duration` is not given, else never.
---@field settle? knbl.Duration
---@field duration? knbl.Duration How long to measure, not counting the warm-up.
---@field warmup? knbl.Duration How long to run before measuring. Default: a tenth of the duration, 100 ms to 1 s.
---@field interval? knbl.Duration Step of the time series; for ping, the time from one echo to the next.
---@field count? integer Operations to do, over all flows; with a duration, whichever ends first. http: also `requests`.
---@field flows? integer Connections at the same time. http: also `connections`.
---@field threads? integer Threads that serve the flows, at least one for each of several targets.
---@field size? knbl.Sizes Bytes of a message, request or datagram.
---@field response? knbl.Size Bytes of a response.
---@field burst? integer Outstanding requests on each flow.
---Open loop: operations or bits per second, over all flows. Latency counts from when an operation was due.
---@field rate? knbl.Rate
---@field every? knbl.Duration ping: time from one echo to the next, also called `interval`.
---@field ip? 4|6 IP version.
---@field cpus? string CPUs that the client's threads may run on, as in "2-5,8".
---@field server_cpus? string The same for the agent's threads that serve the flows.
---@field mss? knbl.Size Maximum segment size to ask for; the result has the effective one.
---@field sndbuf? knbl.Size Send buffer of each socket.
---@field rcvbuf? knbl.Size Receive buffer of each socket.
---@field nodelay? boolean Send small segments at once (TCP_NODELAY).
---@field reverse? boolean The server sends.
---@field bidir? boolean Both sides send at the same time.
---@field zerocopy? boolean Send with MSG_ZEROCOPY.
---@field gso? boolean UDP: segmentation offload when sending, coalescing when receiving.
---@field wait? "block"|"auto"|"spin" How to wait for data.
---plain: the system calls that other tools use; auto: the fastest ones, as found in the warm-up.
---@field tune? "plain"|"auto"
---@field fin? boolean tcp_crr: send the FIN with the data.
---tcp_crr: the client ends connections with a reset, so that no TIME_WAIT stays at the server; http: it resets
---connections that the server has closed. Set on Kubernetes and for gVisor.
---@field reset? boolean
---@field timeout? knbl.Duration Time after which an operation or a connect has failed.
---@field delay? knbl.Duration Time that the server waits before each response.
---@field keepalive? boolean http: reuse connections for several requests.
---@field tls? boolean http: HTTPS, to a server of your own. A URL that begins with https:// sets it.
---http: false: do not verify the server's certificate. The result has the flag `unverified`.
---@field verify? boolean
---http: a file with the certificates, in PEM form, of the authorities that may sign the server's. The script reads it.
---Default: what the system trusts where the client runs.
---@field ca? string
---@field resume? boolean http: new connections resume the TLS session of another; default: true.
---@field http2? boolean http: HTTP/2, by ALPN with TLS, else in clear text with prior knowledge.
---@field streams? integer http: requests at a time on each connection of HTTP/2.
---@field body? knbl.Size http: size of the agent's response body.
---@field external? boolean http, dns, probe: the target is a server of your own, not an agent.
---@field cc? string Congestion control.
---dns: names to ask for, in turn. A name may be a pattern: "host-{1..100}.example.com", "{api,web}.default". For PTR,
---addresses. At most 127 characters.
---@field names? string|string[]
---@field type? "A"|"AAAA"|"both"|"SRV"|"PTR" dns: record type; both: A and AAAA at once from one socket, as glibc does.
---@field proto? "udp"|"tcp" dns: transport. A truncated answer over UDP is asked for again over TCP.
---@field retries? integer dns: queries to send again without an answer; attempts have equal shares of the timeout.
---@field resolve? "exact"|"pod" dns: pod: use the search list and ndots of /etc/resolv.conf in `from`.
---@field edns? knbl.Size dns: announce that answers of this size over UDP are accepted (EDNS).
---@field path? string http, probe: path to request.
---@field host? string http, probe: Host header; for https also the name that the certificate must have (SNI).
---probe: what an attempt is. connect: a TCP connection of its own, with a request and a response, if the target is an
---agent; session: a request on a connection that is kept; udp: a datagram of a socket of its own; http: a GET request.
---@field kind? "connect"|"session"|"udp"|"http"

---Keeps a moment: `mark "pod deleted"` puts its text and time into the ledger and the charts. Returns the time, in
---seconds since the window opened.
---@class knbl.Mark
---@field wait fun(time: knbl.Duration) Waits.
---@field stop fun() Ends the measurement now.

---@class knbl.Result The result of a measurement, as in the file of --json.
---@field ok boolean
---@field error? { code: string, message: string } Why the measurement failed.
---@field skipped? string Why it was not measured.
---@field test string
---@field case string
---@field from string
---@field to string
---@field via knbl.Via Of several targets all of theirs, with commas.
---@field params table The parameters, with defaults, in base units.
---@field metrics knbl.Metrics
---@field flags string[] What makes a figure doubtful.
---@field marks? { t: number, text: string }[] What `during` marked, in seconds since the window opened.
---What was recorded during the measurement: of client, servers, and nodes with agents of their own.
---@field monitor? knbl.Monitor[]
---Where the CPUs of each machine spent their time, if `profile` was set; see docs/profiles.md.
---@field profile? knbl.Profile[]
---The sender's headline figure over its own loopback. Measured if the duration is at least 5 s, always with --ceiling,
---never with --no-ceiling.
---@field ceiling? number

---Lists over time, with an entry for each interval. A number in place of a list: it did not change. What cannot be read
---is absent.
---@class knbl.Monitor
---@field name string The pod's or node's.
---@field kind "pod"|"node"|string
---@field side "client"|"server"|"both"
---The kernel's boot id. Those with the same id share CPUs and memory, which only one of them then has.
---@field machine? string
---@field from? number When it began, in seconds from the start of the client's window; negative, since it began before.
---@field t number[] The end of each interval, in seconds from `from`.
---A list for each core: shares of its time.
---@field cpu? { user: table, system: table, softirq: table, steal: table, idle: table }
---@field memory? { available: integer[], total: integer } Bytes of the machine.
---@field process? { cpu: number[], memory: integer[] } Of the agent: cores, bytes.
---@field cgroup? { cpu: number[], memory: integer[], throttled: integer[], throttled_s: number[], quota: number }
---@field interfaces? table<string, table> Those with traffic: rx_bytes_per_s, tx_packets_per_s, rx_drops, tx_errors …
---segments, retransmits, timeouts, listen_drops, backlog_drops, queue_drops, sockets, time_wait; memory, memory_max
---(the pressure limit of tcp_mem) in bytes and memory_pressures, of the machine.
---@field tcp? table
---@field udp? table receive_drops, send_drops; memory in bytes, of the machine.
---The longest time that the agent did not run; how far the clock jumped; how long the machine slept.
---@field clock? { late_s: number, jumped_s: number, asleep_s: number }
---@field softnet? { drops: integer[], squeezed: integer[] } The machine's.
---insert_failed: packets that met an entry of the same flow, as two queries at once from one socket can.
---@field conntrack? { entries: integer[], max: integer, drops: integer[], insert_failed: integer[] }

---Stacks of a machine, folded into a tree: node i (from 1) is a child of node parents[i]; 0 is the root.
---@class knbl.Profile
---@field name string The node's name; "this machine" where everything is on one.
---Why there is no profile, and what would allow it. All other fields are absent then.
---@field error? { code: string, message: string }
---@field event "cycles"|"cpu-clock" The event that was sampled.
---@field hz integer Samples per second on each CPU.
---@field cpus integer
---@field duration_s number How long the sampling took.
---@field busy_s? number CPU time that the samples of busy CPUs represent.
---@field samples integer All samples.
---@field idle integer Samples of an idle CPU; they are not in the tree.
---@field lost integer Samples that were lost.
---@field cut number The share of busy samples in small branches that were cut; they count for the node above.
---@field frames string[] Names of processes, and of functions of the kernel and of programs.
---@field kinds string A letter for each of the frames: process, kernel, user.
---@field parents integer[]
---@field names integer[] The index of each node's frame, from 0.
---@field counts number[] Samples with that node on top.
---@field missing? string[] Addresses that could not be named, and what would allow it.

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

---Of the lookups that began in the window.
---@class knbl.Lookups
---@field lookups integer
---@field queries integer Messages to the server: also retries, names of the search list, and A beside AAAA.
---@field queries_per_lookup number
---@field retries integer Queries sent again since no answer came.
---@field truncated integer Answers that had to be asked for again over TCP.
---@field empty integer Lookups that found no record of the type.
---@field differing integer Answers other than the one before to the same name; the order of records does not matter.
---@field alias_loops integer CNAMEs in a circle, or more than 16 in a row.
---@field oversized integer Answers over UDP that are larger than 512 bytes, or than `edns`.
---@field malformed integer Answers that are not a valid DNS message.
---@field unexpected integer Answers with an unknown id, or to another question.
---@field late integer Answers after their timeout, and duplicates.
---@field reconnects integer TCP connections that the server closed and the client opened again.
---@field rcodes table<string, integer> Answers by response code: NOERROR, NXDOMAIN, SERVFAIL …

---What a path carries in one direction. Bytes of a packet with its IP header.
---@class knbl.PathMtu
---@field mtu_path integer The largest packet that arrived.
---@field mtu_link integer The MTU of the sender's interface.
---@field mtu_reported? integer The smallest MTU that ICMP reported to the sender.
---@field black_hole boolean Packets larger than mtu_path vanish, and no ICMP message says so. In `expect`, true is 1.
---@field mss? integer Payload of a full TCP segment of the sender, after what ICMP taught it.
---@field mss_works? boolean Full segments pass. Absent if TCP could not connect.
---@field summary string The same in one sentence.

---@class knbl.Backend
---@field share? number Of the operations; for a stream, of the connections.
---@field ops? integer
---@field connections? integer That it served, for connections that carry several requests.
---@field node? string
---@field zone? string Of its node, if the cluster has zones.
---Nanoseconds; for probe, and for tcp_rr and http on connections that are kept. Elsewhere the client does not learn who
---answered each operation.
---@field p50? number
---@field p99? number

---@class knbl.Target
---@field address string
---@field asked number The share that was asked for, of 1.
---@field flows integer
---Of the operations, or of the bytes of a stream. With `rate` or `count` it is what was asked for, unless the target is
---too slow; otherwise a target that answers faster has more operations on each of its flows.
---@field share? number
---@field ops? integer
---@field bytes? integer Of a stream: what the receiver got.
---@field rate_per_s? number
---@field throughput_bps? number
---@field p50? number Nanoseconds.
---@field p99? number
---@field errors integer
---@field timeouts integer
---@field connect_errors integer Flows that could not be opened are among them.
---Why it could not be reached any more, if the flag `target_lost` is set.
---@field error? string

---@class knbl.Metrics A figure that was not measured is absent, never 0.
---@field throughput_bps? number
---@field rate_per_s? number
---@field latency_ns? knbl.Latency
---@field loss_ratio? number
---@field sent? integer
---@field received? integer
---@field reordered? integer
---@field duplicated? integer
---@field jitter_ns? number
---udp_rr, dns: answers that arrived and that the client's own socket dropped, because its receive buffer was full.
---@field client_drops? integer
---@field errors? integer
---@field timeouts? integer
---@field retransmits? integer Segments that TCP sent again.
---Of those, segments that the receiver already had (DSACK): they were not lost.
---@field needless_retransmits? integer
---@field resent_ratio? number Their share of all segments with data.
---@field mss_effective? integer
---How evenly several flows were served: the fewest and the most operations (streams: bytes) of one flow, and Jain's
---index, which is 1 where all have as many.
---@field fairness? { flow_min: integer, flow_max: integer, jain?: number }
---Cores: client_process, server_process, client_node …; in the lab also client_sandbox: the whole pod, as seen by its
---host. Cgroups need a window of 10 ms, nodes of 50 ms.
---@field cpu? table<string, number>
---Bytes: client_process, server_process …; in the lab client_sandbox, server_sandbox
---@field memory? table<string, number>
---@field cpu_ns_per_op? number
---@field cpu_s_per_gb? { send: number, recv: number } Absent with bidir, where each end does both.
---@field lookup? knbl.Lookups dns: what the lookups took and gave.
---pmtu: towards the server.
---@field forward? knbl.PathMtu
---pmtu: from the server to the client. Behind a Service, of the pod that answered.
---@field backward? knbl.PathMtu
---@field duration_s? number
---Over time, from the end of the warm-up: { t, bps, ops_per_s }; with bidir, both directions together.
---@field intervals? table[]
---@field step? { t: number, before: number, after: number } When the series changed its level, from what to what.
---@field attempts? integer probe: attempts that were due in the window.
---probe: failures in a row, in seconds since the window opened, with the number of each kind: { from, to, attempts,
---timeout?, refused?, reset?, error?, status? }. The first 1000 of `outage_count`.
---@field outages? table[]
---@field outage_count? integer
---@field outage_total? number Seconds of all outages together.
---@field outage_longest? number Seconds.
---@field blind? number probe: seconds that the prober itself missed: stopped, throttled, starved. No part of an outage.
---@field refused? integer
---@field resets? integer
---@field reconnects? integer kind session.
---Who answered, by name; for a Service also who did not.
---@field backends? table<string, knbl.Backend>
---Of a measurement of several targets: each by its name. Expectations and columns take "targets.web-1.p99".
---@field targets? table<string, knbl.Target>
---@field zones? table<string, number> Where those who answered are: shares by zone (k8s).
---probe: what became of each attempt, as run lengths: "5000o200t" (ok, timeout, refused, x reset, error, h status,
---blind); seconds from one attempt to the next.
---@field timeline? { step: number, runs: string, cut?: boolean }
---probe: seconds from each mark to the first and last attempt after it that succeeded or failed.
---@field after_mark? table<string, { first_ok?: number, last_ok?: number, first_fail?: number, last_fail?: number }>
---knbl.ready: the state at the end, and seconds since the change began: `first`, until the first attempt found it so;
---`last`, until the last one found it otherwise (0: none did); `change`, how long the change itself took. `first` and
---`last` are absent if all attempts found the same state, before the change too (flag `no_change`).
---@field ready? { state: "open"|"closed", first?: number, last?: number, change?: number }

---Measures bulk TCP.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.tcp_stream(ask) end

---Measures bulk TCP sent from a file with sendfile.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.tcp_sendfile(ask) end

---Measures bulk UDP, as fast as possible or at a rate. The receiver counts loss, reordering and jitter.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.udp_stream(ask) end

---Measures request and response over a TCP connection.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.tcp_rr(ask) end

---Measures request and response over UDP.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.udp_rr(ask) end

---Measures connect, request, response and close.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.tcp_crr(ask) end

---Measures bandwidth as qperf does. With a list of sizes it returns a list of results, whose `ok` is true if all are.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.tcp_bw(ask) end

---Measures latency as qperf does: half a round trip.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.tcp_lat(ask) end

---Measures HTTP/1.1 under load, as ab and wrk do.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.http(ask) end

---Measures ICMP echo.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.ping(ask) end

---Measures the path MTU in both directions with datagrams that may not be fragmented, then whether full TCP segments
---pass. Takes less than 3 s for round trips of up to 30 ms.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.pmtu(ask) end

---Measures lookups at a DNS server. `to` is its address, port 53 unless it names one; or a pod or Service with a server
---of your own; or "resolv.conf": the server that the programs in `from` use. A lookup is an error if its response code
---is neither NOERROR nor NXDOMAIN.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.dns(ask) end

---Measures outages: attempts at fixed times (`rate`, 100/s to 20k/s, default 1k/s), each independent of the others. One
---without an answer by its `timeout` (500ms) is a failure of the moment when it was due. See docs/outages.md.
---@param ask knbl.Ask
---@return knbl.Result
function knbl.probe(ask) end

---@class knbl.Ready
---@field from knbl.Pod|knbl.Node|(knbl.Pod|knbl.Node)[] Where attempts come from: a probe each.
---@field to knbl.End|string Where they go.
---@field change fun(mark: knbl.Mark) Changes the cluster while the attempts go on.
---@field before? knbl.Duration How long they go on before the change (300ms).
---@field settle? knbl.Duration How long after it (2s; at least the timeout of an attempt).
---@field within? knbl.Duration How long the change may take (60s).

---Measures how soon a change is known at each end: after something was added or allowed, when attempts first succeed
---and when the last one fails; after something was removed or denied, when they first fail and when the last one
---succeeds (the last leak). Takes the other keys of knbl.probe too. Returns a result for each end (with
---a `case`, its name is "CASE, from END"), with `metrics.ready`; figures: `ready_first`, `ready_last`, `ready_change`.
---@param ask knbl.Ready
---@return knbl.Result[]
function knbl.ready(ask) end

-- ## Combinations, tables, notes

---Iterates over all combinations of some values; the last name changes fastest. It takes `{ NAME, VALUE… }` for each
---name, and `repeats`, which `--repeats` overrides: a repeat is a whole round over all combinations. A combination has
---its values by name, and `round`. Measurements in the loop are labelled with it; a table among the values is labelled
---by its `name` or its first string.
---@param rows table
---@return fun(): table?
function knbl.matrix(rows) end

---Runs several measurements at the same time: each is a table as `knbl.TEST` takes it, with the name of its `test`.
---Returns their results, in the same order.
---@param list table[]
---@return knbl.Result[]
function knbl.together(list) end

---@class knbl.MeshBudget
---@field time? knbl.Duration The most time that it may take.
---The share of the nodes' links that may send at the same time ("20 %"), or a rate for all streams together.
---@field bandwidth? string

---@class knbl.MeshOptions
---@field nodes (knbl.Node|knbl.Pod)[] Nodes, whose own network is measured, or pods.
---@field duration? knbl.Duration Time for each pair and test. Default: "1s".
---Names of tests, or tables with `test` and its options.
---@field tests (string|table)[]
---Default: all up to 100 nodes; beyond, levels where the nodes have labels of zones or racks, else sample.
---@field plan? "all"|"sample"|"levels"
---@field budget? knbl.MeshBudget
---@field partners? integer Random partners of each node, in each direction. Default: as many as `find` takes.
---@field find? string|number How much worse a node's figure must be to be found with 99 %. Default: "20 %".
---@field zone? string The label that names a node's zone. Default: topology.kubernetes.io/zone.
---@field rack? string The label that names a node's rack. Default: topology.kubernetes.io/rack, or rack.
---@field expect? string "no outlier": the run fails if the mesh names an outlier.

---@class knbl.MeshOutlier
---@field kind "sender"|"receiver"|"pair"|"zone"
---@field name string The node, "a → b" of a pair.
---@field test string
---@field figure string p50, mean, throughput, loss, mtu; reach if its pairs fail.
---@field effect number The relative change of the figure (-0.38); of a loss, the share lost beyond the usual.
---@field low? number Of the 95 % interval.
---@field high? number
---@field pairs integer It was judged by so many pairs.
---@field agree integer So many of them are worse too.
---@field text string The finding as a sentence.

---@class knbl.MeshResult
---@field outliers knbl.MeshOutlier[]
---@field zones knbl.MeshOutlier[] Ways between zones that differ from those within; `expected` if all such ways do.
---@field pairs table[] Each run: from, to, test, ok, error, metrics.
---@field missing table<string, string> Nodes that did not take part, and why.
---@field sentences string[] The verdict.
---@field unsure? string Why no outlier can be named.

---Measures a mesh of nodes by a schedule that the agents carry out alone, and says which nodes, pairs and zones stand
---out. See docs/mesh.md.
---@param options knbl.MeshOptions
---@return knbl.MeshResult
function knbl.mesh(options) end

---Returns rounds in which each of n meets every other once, and none takes part twice in a round: n - 1 rounds for an
---even n, n for an odd one.
---@param n integer
---@return integer[][][]
function knbl.rounds(n) end

---@class knbl.Column
---@field [1]? string The title. Default: the figure's.
---The figure, or a function of a row's results: they are a list and by test, as in row.tcp_rr.metrics.latency_ns.p50.
---@field [2]? string|fun(row: table): number?
---@field show? string|fun(row: table): number? The figure.
---@field better? "less"|"more" Of a function's value.
---@field test? string|string[] Only of these tests.
---@field where? table<string, any> Only of measurements with these labels or parameters.
---@field unit? string|"B/s"|"bit/s"|"Mbit/s"|"Gbit/s"|"ms"|"us"|"ns" In place of the figure's own unit.

---@class knbl.Report
---What makes a row: a label, test, case, from, to, via, a parameter, load (open or closed loop), start (cold or warm)
---or target (each of several). Default: case.
---@field rows? string|string[]
---@field columns? string|(string|knbl.Column)[] A key, for one column for each of its values; or a list of columns.
---@field show? string|(string|knbl.Column)[] What the cells show, if `columns` is a key.
---@field title? string
---@field test? string|string[] Only these tests.
---@field where? table<string, any> Only measurements with these labels or parameters.
---@field unit? string As for a column; applies to those figures that it fits.
---@field join? boolean Show several figures in one cell.
---One of the values of rows or columns: all others show their difference from it, as "(+37 %)".
---@field baseline? string|number
---@field layout? "table"|"sweep" sweep: `--csv` writes the CSV of the Kubernetes network benchmark, maximum first.

---Declares a table for the end of the run; several are allowed. Without any, there is a plain table for each kind of
---test, and one by target of measurements of several.
---@param report knbl.Report
function knbl.report(report) end

---@class knbl.Metric
---@field name string What the figure is called.
---@field value number
---@field unit? string Shown behind the value: "ms", "EUR".
---@field better? "less"|"more" Without it a comparison says only that it differs.
---Its name, or a combination that knbl.matrix gives. Default: the combination, else the name of the figure.
---@field case? string|table
---@field labels? table<string, any> Beside those of the matrix.
---@field expect? string|string[] As a measurement's, of the figure `value`: "value < 5".

---A figure of the script's own (worked out from results, or from another program): it enters the ledger as a
---measurement of the test `metric` with the figure `value`, which reports, expectations and `knbl compare` take.
---@param metric knbl.Metric
---@return knbl.Result
function knbl.metric(metric) end

---The median of some numbers.
---@param list number[]
---@return number
function knbl.median(list) end

---An interval that covers the true median with this confidence (default 0.95); nil where there are too few numbers:
---six are the least for 0.95.
---@param list number[]
---@param confidence? number
---@return number? low
---@return number? high
function knbl.interval(list, confidence) end

---The probability of ranks as uneven as these if both lists came from one distribution (Mann-Whitney, two-sided).
---@param a number[]
---@param b number[]
---@return number p
function knbl.rank_test(a, b) end

---Adds a finding of the script's own to the ledger, and below the tables.
---@param note string|table
function knbl.note(note) end

return knbl
