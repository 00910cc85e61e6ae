/* lab - a cluster made of namespaces, inside a user + network + PID + mount namespace of its own.
 *
 * kn_lab_open forks a warden and, below it, the lab's keeper: PID 1 of the new namespaces. Both end when this process
 * does (by SIGKILL too), and the kernel takes namespaces, links and pods along. Nothing of the machine's own network is
 * touched. It needs no root where the kernel lets users make user namespaces; as root it does without one. Linux 5.9.
 *
 * The keeper carries out requests, one at a time. Requests and answers are JSON objects, so that scripts reach all of
 * it ("?" marks what may be left out; without "name" one is made up: "node-1", "pod-3", "service-2"):
 *
 *   {"op":"node","name":?}
 *       {"name","kind":"node","node","ip":[...],"port","control":PATH,"interface","mtu","alive"}
 *   {"op":"pod","name":?,"node":?,"runtime":"runc|host|gvisor|kata|kata-clh|kata-fc","mtu":?,"port":?,"command":[...]?,
 *    "bandwidth":?,"cpu":?,"memory":?,"hardened":?,
 *    "vm":{"vcpus":?,"machine":"microvm|q35"?,"offloads":?,"join":"tc|bridge"?,"kernel":?,"initramfs":?,
 *          "boot_timeout":?}?}          (kata: all of them; "machine" is qemu's)
 *       {"name","kind":"pod","node","runtime","ip":[...],"port","control":PATH,"interface","mtu","alive","exit"?,
 *        "started_ms","sandbox":{...}} (how it runs: see "runtimes"); made anew also what "usage" tells; ended also
 *        "last"?, the end of what it wrote, and "out_of_memory"?
 *   {"op":"service","name":?,"endpoints":[NAME...],"type":"ClusterIP|NodePort"?,"headless":?,"affinity":?,
 *    "external_traffic_policy":"Cluster|Local"?,"node_port":?,"ports":[{"port","target":?,"protocol":"tcp|udp|both"?,"node_port":?}...]?}
 *       {"name","kind":"service","type","headless","affinity","ip":[...],"port","node_port"?,"ports","endpoints"}
 *   {"op":"delete","name"}
 *       {"deleted":NAME}
 *   {"op":"status"}
 *       {"lab":{...},"nodes":[...],"pods":[...],"services":[...]}
 *   {"op":"runtimes"}
 *       {"runtimes":[{"name","ok":true,"version"?,"platform"?,"network"?,...},{"name","ok":false,"reason"}...]}
 *       how each would run here, found out by trying, or what to install
 *   {"op":"usage","name"}
 *       {"cpu_ns"?,"memory_bytes"?,"host_pids":[...]}
 *       of a pod's or node's processes as their host sees them, a sandbox's own among them
 *   {"op":"links"}
 *       {"links":[{"owner","kind","name","mtu","rx_bytes","tx_bytes","rx_packets","tx_packets",...}...]}
 *       of the fabric and of each node: "node2" in the fabric is node 2's uplink, "pod3" on a node a pod's "interface"
 *   {"op":"backends","service":?}
 *       {"backends":[{"service","endpoint","protocol","port","node","family","connections"}...]}
 *       what the DNAT of each node sent to whom
 *   {"op":"exec","in":?,"argv":[...],"capture":?,"shell":?}
 *       {"status","output"?}: runs a program in a pod, on a node or, without "in", beside the fabric; with this
 *       process' standard streams, or with its output captured (1 MiB at most); a "shell" gets the terminal
 *
 * A list of addresses has IPv4 first. A name is a DNS label of at most 63 characters. PATH is a Unix socket that this
 * process can connect to (through /proc/PID/root). */
#ifndef KN_LAB_LAB_H
#define KN_LAB_LAB_H

#include <jansson.h>

#include "core/error.h"

struct kn_lab;
/* {"mtu":1500,"overlay":"none|vxlan","families":"dual|4|6","services":0,"mode":"maps|chains","port":7099,"token":...};
 * NULL: all defaults. Without "families" it is dual where the kernel has IPv6. Without "token" one is made, which
 * `status` tells. The lab belongs to the process that opens it; children may not use it. */
struct kn_lab *kn_lab_open(const json_t *options, struct kn_error *err);
/* The answer, a new reference; NULL with the keeper's own message on an error. */
json_t *kn_lab_request(struct kn_lab *lab, const json_t *request, struct kn_error *err);
/* "exec" for a process that is in a lab already: from a lab's shell into one of its pods. */
json_t *kn_lab_exec_inside(const json_t *request, struct kn_error *err);
/* While it is readable, no program is waited for whose output "exec" captures: KN_E_INTERRUPTED. -1, as at first: none. */
void kn_lab_stop_fd(struct kn_lab *lab, int fd);
int kn_lab_keeper(const struct kn_lab *lab); /* the keeper's PID */
void kn_lab_close(struct kn_lab *lab);       /* waits until every process is gone; takes NULL */

#endif
