/* lab - a cluster made of namespaces, inside a user + network + PID + mount namespace of its own.
 *
 * kn_lab_open forks a warden and, below it, the lab's keeper: PID 1 of the new namespaces. Both end when this process
 * does, by SIGKILL too, and the kernel then removes namespaces, links and pods. The machine's own network is not
 * touched. No root is required if the kernel lets users make user namespaces. Requires Linux 5.9.
 *
 * The keeper carries out one request at a time. Requests and answers are JSON objects, so that scripts can use all of
 * it ("?" marks optional members; the default names are "node-1", "pod-3", "service-2"):
 *
 *   {"op":"node","name":?}
 *       {"name","kind":"node","node","ip":[...],"port","control":PATH,"interface","mtu","alive"}
 *   {"op":"pod","name":?,"node":?,"runtime":"runc|host|gvisor|kata","mtu":?,"port":?,"command":[...]?,
 *    "bandwidth":?,"cpu":?,"memory":?,"hardened":?,"networks":[NETWORK or NETWORK@INTERFACE...]?,
 *    "vm":{"vcpus":?,"machine":"microvm|q35"?,"offloads":?,"join":"tc|bridge"?,"kernel":?,"initramfs":?,
 *          "boot_timeout":?}?}          (kata)
 *       {"name","kind":"pod","node","runtime","ip":[...],"port","control":PATH,"interface","mtu","alive","exit"?,
 *        "started_ms","networks":[{"name","interface","ip":[...]}...]?,"sandbox":{...}} (see "runtimes"); a new pod
 *        has the members of "usage" too; one that has ended has "last"?, the end of its output, and "out_of_memory"?
 *       "networks" are secondary networks, one link for all nodes each, made when a pod first names them; their
 *       interfaces are net1, net2, … unless named
 *   {"op":"service","name":?,"endpoints":[NAME...],"type":"ClusterIP|NodePort"?,"headless":?,"affinity":?,
 *    "external_traffic_policy":"Cluster|Local"?,"external_ips":[IP...]?,"node_port":?,
 *   "ports":[{"port","target":?,"protocol":"tcp|udp|both"?,"node_port":?}...]?}
 *       {"name","kind":"service","type","headless","affinity","ip":[...],"port","node_port"?,"ports","endpoints"}
 *   {"op":"policy","name":?,"to":[POD...],"from":[POD, NODE or RANGE...]?,"copies":?}
 *       {"name","kind":"policy","to","from","copies"}
 *       "to" lets in new connections from "from" and from what other policies name, and nothing else; "copies" is the
 *       number of such policies
 *   {"op":"delete","name"}   a pod leaves its Services first
 *       {"deleted":NAME}
 *   {"op":"status"}
 *       {"lab":{...},"nodes":[...],"pods":[...],"services":[...]}
 *   {"op":"runtimes"}
 *       {"runtimes":[{"name","ok":true,"version"?,"platform"?,"network"?,...},{"name","ok":false,"reason"}...]}
 *       how each would run here, found by trying, or what to install
 *   {"op":"usage","name"}
 *       {"cpu_ns"?,"memory_bytes"?,"host_pids":[...]}
 *       of a pod's or a node's processes as their host sees them, with those of a sandbox
 *   {"op":"links"}
 *       {"links":[{"owner","kind","name","mtu","rx_bytes","tx_bytes","rx_packets","tx_packets",...}...]}
 *       of the fabric and of each node: "node2" in the fabric is node 2's uplink, "pod3" on a node a pod's "interface"
 *   {"op":"backends","service":?}
 *       {"backends":[{"service","endpoint","protocol","port","node","family","connections"}...]}
 *       the connections that each node's DNAT sent to each endpoint
 *   {"op":"exec","in":?,"argv":[...],"env":{NAME:VALUE...}?,"capture":?,"shell":?}
 *       {"status","output"?}: runs a program in a pod, on a node or, without "in", in the fabric's namespace; with this
 *       process' standard streams, or with its output captured (1 MiB at most) until it ends; a "shell" gets the
 *       terminal
 *
 * Lists of addresses have IPv4 first. A name is a DNS label of at most 63 characters. PATH is a Unix socket to which
 * this process can connect (through /proc/PID/root). */
#ifndef KN_LAB_LAB_H
#define KN_LAB_LAB_H

#include <jansson.h>

#include "core/error.h"

struct kn_lab;
/* {"mtu":1500,"overlay":"none|vxlan","families":"dual|4|6","services":0,"mode":"maps|chains","port":7099,"token":...};
 * NULL: all defaults. The default of "families" is dual if the kernel has IPv6; that of "token" is random and shown by
 * `status`. Only the process that opened the lab may use it, not its children. */
struct kn_lab *kn_lab_open(const json_t *options, struct kn_error *err);
/* What kn_lab_open would refuse in `options`, found without opening anything. */
int kn_lab_options_check(const json_t *options, struct kn_error *err);
/* Returns a new reference; NULL with the keeper's message on an error. */
json_t *kn_lab_request(struct kn_lab *lab, const json_t *request, struct kn_error *err);
/* "exec" for a process in the lab: from the lab's shell into one of its pods. */
json_t *kn_lab_exec_inside(const json_t *request, struct kn_error *err);
/* While this descriptor is readable, an "exec" that captures output fails with KN_E_INTERRUPTED. Initially -1: none. */
void kn_lab_stop_fd(struct kn_lab *lab, int fd);
int kn_lab_keeper_pid(const struct kn_lab *lab); /* the keeper's PID */
void kn_lab_close(struct kn_lab *lab);           /* waits until all processes have ended; takes NULL */

#endif
