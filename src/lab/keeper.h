/* lab/keeper - what the files of the lab share: the keeper's tables, and who does what. Not for other rooms.
 *
 * The keeper is single-threaded and lives in the fabric's network namespace. It enters another one (kn_netns_enter) to
 * work there and always comes back. Interface numbers are fixed, so that nothing has to be looked up. */
#ifndef KN_LAB_KEEPER_H
#define KN_LAB_KEEPER_H

#include <jansson.h>
#include <limits.h>
#include <netlink/netlink.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/error.h"
#include "net/addr.h"

#define LAB_NAME_MAX 63
#define LAB_NODES_MAX 250
#define LAB_PODS_MAX 1000
#define LAB_SERVICES_MAX 1000
#define LAB_IDLE_MAX 20000
#define LAB_ENDPOINTS_MAX 250
#define LAB_PORTS_MAX 16
#define LAB_RUN "/run/knbl"
#define LAB_KEEPER_CGROUP "keeper"
#define LAB_NODE_PORT_FIRST 30000
#define LAB_VNI 1
#define LAB_VXLAN_PORT 8472

/* interface numbers, the same in every namespace */
enum { LAB_IF_LO = 1, LAB_IF_ETH0 = 2, LAB_IF_BRIDGE = 3, LAB_IF_OVERLAY = 4, LAB_IF_PORTS = 100 };

struct kn_ip { int family; uint8_t bytes[16]; };            /* family 0: none */
struct kn_mac { uint8_t bytes[6]; };
#define LAB_IP_TEXT 48

/* The lab's folders of cpu, cpuacct and memory (v2: the first alone); empty where there may be none. */
enum { LAB_CGROUPS = 3 };
struct kn_lab_cgroups { int version; char folder[LAB_CGROUPS][PATH_MAX]; };

struct kn_lab_options {
    unsigned mtu, services;
    bool v4, v6, vxlan, chains;
    uint16_t port;
    char token[129];
    struct kn_lab_cgroups cgroups;  /* the warden's to make */
};

struct kn_lab_node {
    char name[LAB_NAME_MAX + 1];
    unsigned index;             /* from 1; addresses and interfaces follow from it */
    unsigned mtu;               /* of its pods */
    int netns;
    struct nl_sock *nl;
    struct kn_ip ip[2];         /* IPv4, IPv6 */
    pid_t pid;                  /* of its agent; 0: ended */
    int exit_status;
    uint16_t port;
    struct kn_lab_node *next;
};

struct kn_lab_pod;
struct kn_vmm;
/* A runtime is how a pod's processes are boxed.
 *
 * `probe` says whether it can be had here and how it would run: texts added to `about` ("version", "platform",
 * "network", and "label" where its name alone would mislead: "kata (qemu 7.2, emulated)"), or KN_E_UNSUPPORTED
 * with what to install. It is asked once a lab, before the first pod.
 * `start` returns once the agent, or the pod's own command, is up; its network is there before. `pid` is the pod's
 * first process: when it ends, all of the pod has ended. */
struct kn_keeper;
struct kn_lab_runtime {
    const char *name;
    bool node_network;          /* the pod has the node's namespace and addresses */
    /* What runs the pod as a guest (vm.h): its addresses are the guest's, its namespace has none, and runs no programs.
     * NULL: it is none. */
    const struct kn_vmm *vmm;
    int (*probe)(struct kn_keeper *keeper, const struct kn_lab_runtime *runtime, json_t *about, struct kn_error *err);
    int (*start)(struct kn_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err);
};
extern const struct kn_lab_runtime kn_lab_runc, kn_lab_host, kn_lab_gvisor, kn_lab_kata, kn_lab_kata_clh,
    kn_lab_kata_fc;
enum { LAB_RUNTIMES_MAX = 8 };
struct kn_lab_probe { bool done; json_t *about; struct kn_error why; };
const struct kn_lab_runtime *kn_lab_runtime_find(const char *name, struct kn_error *err);
/* What its probe found, which is the keeper's; NULL with the reason where it cannot be had. */
const json_t *kn_lab_runtime_about(struct kn_keeper *keeper, const struct kn_lab_runtime *runtime, struct kn_error *err);
bool kn_lab_installed(const char *program); /* in PATH */
json_t *kn_lab_runtimes_json(struct kn_keeper *keeper);

struct kn_lab_pod {
    char name[LAB_NAME_MAX + 1];
    struct kn_lab_node *node;
    const struct kn_lab_runtime *runtime;
    unsigned index;             /* in the lab: names the interface; 1 and up */
    unsigned slot;              /* on the node: makes the address */
    unsigned mtu;
    int netns;                  /* -1 where it is the node's */
    struct kn_ip ip[2];
    pid_t pid;                  /* 0: ended */
    int exit_status;
    uint16_t port;
    bool agent;
    unsigned started_ms;        /* what `start` took */
    const json_t *about;        /* what the runtime's probe found */
    json_t *own;                /* what is otherwise with this pod; NULL: nothing */
    uint64_t cpu_milli, memory, bandwidth_bps; /* limits; 0: none */
    bool hardened;
    struct kn_lab_pod *next;
};

struct kn_lab_port { uint16_t port, target, node_port; bool tcp, udp; }; /* target 0: the endpoint's own, or the same */

/* Who answers for a Service: a pod or a node. `id` stands for it in the names of chains, which are bounded. */
struct kn_lab_endpoint {
    const void *owner;
    const struct kn_lab_node *node;
    const char *name;
    char id[8];
    const struct kn_ip *ip;
    uint16_t port;
    bool agent;
};

struct kn_lab_service {
    char name[LAB_NAME_MAX + 1];
    unsigned index;
    bool headless, affinity, node_ports;
    bool only_local;            /* who comes from outside to a node's port meets endpoints of that node alone */
    struct kn_ip ip[2];
    size_t n_ports, n_endpoints;
    struct kn_lab_port ports[LAB_PORTS_MAX];
    struct kn_lab_endpoint *endpoints;
    struct kn_lab_service *next;
};

struct kn_keeper {
    struct kn_lab_options options;
    int request_fd, signal_fd;
    int netns, pidns;           /* its own: the way back */
    struct nl_sock *nl;         /* in the fabric */
    pid_t outer_pid;            /* the keeper's PID as the opener sees it */
    struct kn_lab_node *nodes;
    struct kn_lab_pod *pods;
    struct kn_lab_service *services;
    struct kn_lab_probe probes[LAB_RUNTIMES_MAX];
};

/* ---- options.c, request.c: what comes in ---- */
enum kn_lab_kind { LAB_TEXT, LAB_NUMBER, LAB_BOOL, LAB_LIST, LAB_QUANTITY /* a number or a text */, LAB_OBJECT };
struct kn_lab_field { const char *name; enum kn_lab_kind kind; };
int kn_lab_check(const json_t *object, const char *what, const struct kn_lab_field *fields, size_t n,
                 struct kn_error *err);
int kn_lab_options_read(const json_t *json, struct kn_lab_options *out, struct kn_error *err);
int kn_lab_name_check(const char *name, struct kn_error *err);
int kn_lab_number(const json_t *object, const char *key, long long low, long long high, long long missing,
                  long long *out, struct kn_error *err);
json_t *kn_lab_handle(struct kn_keeper *keeper, const json_t *request, struct kn_error *err);
json_t *kn_lab_error_json(const struct kn_error *err);

/* ---- keeper.c ---- */
/* in the new namespaces, as PID 1; returns when it is over */
int kn_keeper_main(const struct kn_lab_options *options, int request_fd, int warden_fd);
int kn_lab_name_take(struct kn_keeper *keeper, const json_t *request, const char *kind, char name[LAB_NAME_MAX + 1],
                     struct kn_error *err);
struct kn_lab_node *kn_lab_node_find(struct kn_keeper *keeper, const char *name);
struct kn_lab_pod *kn_lab_pod_find(struct kn_keeper *keeper, const char *name);
struct kn_lab_service *kn_lab_service_find(struct kn_keeper *keeper, const char *name);
/* NULL: none is near */
const char *kn_lab_name_near(struct kn_keeper *keeper, const char *word, bool nodes, bool pods, bool services);

/* ---- frame.c: messages between the opener and its keeper: a length of 4 bytes, then JSON ---- */
int kn_frame_send(int fd, const json_t *message, struct kn_error *err);
json_t *kn_frame_receive(int fd, struct kn_error *err);     /* NULL with KN_E_LOST: the other side has ended */

/* ---- netns.c ---- */
int kn_netns_new(int *fd, struct kn_error *err);            /* makes one, and stays in it */
int kn_netns_enter(int fd, struct kn_error *err);
struct nl_sock *kn_netns_socket(struct kn_error *err);      /* rtnetlink in the namespace where the caller is */
int kn_sysctl_write(const char *name, const char *value, struct kn_error *err);
/* for the namespace where the caller is */
int kn_netns_sysctls(const struct kn_lab_options *options, bool forwards, struct kn_error *err);

/* ---- address.c ---- */
void kn_lab_fabric_ip(int family, struct kn_ip *ip);
void kn_lab_node_ip(unsigned node, int family, struct kn_ip *ip);
void kn_lab_pod_range(unsigned node, int family, struct kn_ip *ip);             /* the base; see kn_lab_range_bits */
void kn_lab_pod_ip(unsigned node, unsigned slot, int family, struct kn_ip *ip);  /* slot 1 is the node's bridge */
void kn_lab_service_ip(unsigned service, int family, struct kn_ip *ip);
void kn_lab_idle_ip(unsigned i, int family, struct kn_ip *ip);
void kn_lab_mac(unsigned kind, unsigned number, struct kn_mac *mac);
char *kn_ip_text(const struct kn_ip *ip, char *buf, size_t size);
json_t *kn_ip_list(const struct kn_ip ip[2]);
void kn_ip_unlist(const json_t *list, struct kn_ip ip[2]);  /* what is no address is left out */
unsigned kn_lab_range_bits(int family);     /* a node's pod range */
unsigned kn_lab_fabric_bits(int family);
unsigned kn_lab_host_bits(int family);      /* 32, 128 */
#define LAB_ALL_PODS_4 "10.244.0.0/14"
#define LAB_ALL_PODS_6 "fd00:10:244::/48"
#define LAB_SLOT_FIRST 2
#define LAB_SLOT_LAST 1020

/* ---- link.c: rtnetlink ---- */
struct kn_veth { const char *name, *peer_name; unsigned index, peer_index, mtu; struct kn_mac mac; int peer_netns; };
/* up; its peer is for kn_link_up */
int kn_link_veth(struct nl_sock *nl, const struct kn_veth *veth, struct kn_error *err);
int kn_link_bridge(struct nl_sock *nl, const char *name, unsigned index, unsigned mtu, const struct kn_mac *mac,
                   struct kn_error *err);
int kn_link_mtu(struct nl_sock *nl, unsigned index, unsigned mtu, struct kn_error *err);
int kn_link_hardware(struct nl_sock *nl, unsigned index, const struct kn_mac *mac, struct kn_error *err);
int kn_link_up(struct nl_sock *nl, unsigned index, unsigned master, struct kn_error *err);
/* The bridge may send a frame back to the port that it came from: a pod that reaches itself. */
int kn_link_hairpin(struct nl_sock *nl, unsigned index, struct kn_error *err);
int kn_link_no_learning(struct nl_sock *nl, unsigned index, struct kn_error *err);
int kn_link_delete(struct nl_sock *nl, unsigned index, struct kn_error *err);
int kn_link_address(struct nl_sock *nl, unsigned index, const struct kn_ip *ip, unsigned bits, struct kn_error *err);
int kn_link_route(struct nl_sock *nl, const struct kn_ip *to, unsigned bits, const struct kn_ip *via, unsigned index,
                  struct kn_error *err);
/* A host on the link that takes less than the link does, so that whoever sends more is told; and not any more. */
int kn_link_narrow(struct nl_sock *nl, const struct kn_ip *to, unsigned index, unsigned mtu, struct kn_error *err);
void kn_link_widen(struct nl_sock *nl, const struct kn_ip *to, unsigned index);
int kn_link_vxlan(struct nl_sock *nl, const char *name, unsigned index, unsigned mtu, const struct kn_mac *mac,
                  const struct kn_ip *local, struct kn_error *err);
int kn_link_neighbour(struct nl_sock *nl, unsigned index, const struct kn_ip *ip, const struct kn_mac *mac,
                      struct kn_error *err);
/* vxlan: where `mac` lives */
int kn_link_forward(struct nl_sock *nl, unsigned index, const struct kn_mac *mac, const struct kn_ip *to,
                    struct kn_error *err);
int kn_link_shape(struct nl_sock *nl, unsigned index, uint64_t bps, unsigned mtu, struct kn_error *err);
int kn_link_counters(struct nl_sock *nl, const char *owner, const char *kind, json_t *into, struct kn_error *err);

/* ---- node.c, overlay.c, wish.c, pod.c, service.c, nft.c ---- */
int kn_lab_fabric_make(struct kn_keeper *keeper, struct kn_error *err);
json_t *kn_lab_node_add(struct kn_keeper *keeper, const json_t *request, struct kn_error *err);
json_t *kn_lab_node_json(const struct kn_keeper *keeper, const struct kn_lab_node *node);
int kn_lab_node_delete(struct kn_keeper *keeper, struct kn_lab_node *node, struct kn_error *err);
unsigned kn_lab_pod_mtu(const struct kn_lab_options *options); /* what the overlay leaves of the fabric's MTU */
/* routes both ways to all other nodes */
int kn_overlay_join(struct kn_keeper *keeper, struct kn_lab_node *node, struct kn_error *err);
int kn_lab_pod_read(struct kn_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err);
json_t *kn_lab_pod_add(struct kn_keeper *keeper, const json_t *request, struct kn_error *err);
void kn_pod_mac(const struct kn_lab_pod *pod, struct kn_mac *mac);
/* A pod's addresses at a link, and its way out: in its namespace, or in its guest. */
int kn_pod_address(struct nl_sock *nl, unsigned index, const struct kn_ip ip[2], const struct kn_ip gateway[2],
                   struct kn_error *err);
json_t *kn_lab_pod_json(const struct kn_keeper *keeper, const struct kn_lab_pod *pod);
int kn_lab_pod_delete(struct kn_keeper *keeper, struct kn_lab_pod *pod, struct kn_error *err);
json_t *kn_lab_service_add(struct kn_keeper *keeper, const json_t *request, struct kn_error *err);
json_t *kn_lab_service_json(const struct kn_keeper *keeper, const struct kn_lab_service *service);
/* fails where a Service has it as an endpoint */
int kn_lab_service_free_of(const struct kn_keeper *keeper, const void *owner, const char *name, struct kn_error *err);
int kn_lab_service_delete(struct kn_keeper *keeper, struct kn_lab_service *service, struct kn_error *err);

struct kn_text { char *data; size_t used, size; bool failed; };
void kn_text_add(struct kn_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void kn_nft_base(struct kn_text *text, const struct kn_lab_options *options);
void kn_nft_service(struct kn_text *text, const struct kn_lab_options *options, const struct kn_lab_service *service,
                    const struct kn_lab_node *node);
void kn_nft_service_gone(struct kn_text *text, const struct kn_lab_options *options,
                         const struct kn_lab_service *service, const struct kn_lab_service *all);
int kn_nft_run(const char *commands, struct kn_error *err); /* where the caller is, in as few transactions as they fit into */
int kn_nft_backends(const struct kn_keeper *keeper, const struct kn_lab_node *node, const char *service, json_t *into,
                    struct kn_error *err);

/* ---- spawn.c: processes in a pod or on a node ---- */
struct kn_spawn {
    const char *name, *node;
    int netns;
    struct kn_ip listen;        /* family 0: every address */
    uint16_t port;
    const json_t *command;      /* NULL: the agent */
    uint64_t cpu_milli, memory; /* limits; 0: none */
    bool hardened;
    /* What becomes (exec) the program of a pod's sandbox, in a child of the pod's first process; NULL: no sandbox. It
     * may exec within the pod's namespaces and mounts; its output is the pod's log. */
    int (*box)(const struct kn_keeper *keeper, const struct kn_lab_pod *pod, const json_t *request,
               struct kn_error *err);
    const struct kn_lab_pod *pod;
    const json_t *request;
    uint64_t ready_ns;          /* how long a sandbox may take; 0: LAB_BOX_READY_NS */
};
/* Forks the first process of a new PID namespace with mounts and a host name of its own; returns once it is ready, or
 * says why it is not. */
pid_t kn_spawn(struct kn_keeper *keeper, const struct kn_spawn *spawn, struct kn_error *err);
/* where an agent listens: every address of both families, or of IPv4 */
void kn_lab_listen(bool v6, uint16_t port, struct kn_addr *addr);
/* as the opener reaches it */
char *kn_control_path(const struct kn_keeper *keeper, const char *name, char *buf, size_t size);
void kn_end_process(pid_t *pid);
/* The child is PID 1 of a namespace of its own. */
pid_t kn_fork_apart(const struct kn_keeper *keeper, struct kn_error *err);
/* In the new process, once: it is ready (NULL), or why it is not. */
void kn_spawn_report(const struct kn_error *err);

/* ---- box.c, relay.c, bundle.c: pods in a sandbox ---- */
#define LAB_BOX_READY_NS (60ull * 1000000000ull) /* a guest may have to boot in software, on a busy machine */
#define LAB_BUNDLE LAB_RUN "/bundle"
enum { LAB_OUTSIDE_FD = 4 };                    /* the node's network namespace, in the pod's first process */
/* Whether a connection is taken there, or where `udp` a datagram: of a command of one's own, which may serve UDP alone.
 * *udp_next_ns, from 0 on, is when the latter is tried again: kernels refuse a datagram once a second (icmp_ratelimit). */
bool kn_lab_answers(const struct kn_addr *to, bool udp, int patience_ms, uint64_t *udp_next_ns);
int kn_box_run(const struct kn_keeper *keeper, const struct kn_spawn *spawn); /* the pod's first process, to its end */
void kn_relay_run(int listener, const struct kn_addr *to);                    /* to the end of the process */
/* An OCI bundle for runtimes that take one; `argv` is what runs inside. */
int kn_bundle_make(const struct kn_keeper *keeper, const char *name, const json_t *argv, struct kn_error *err);

/* ---- cgroup.c ---- */
void kn_cgroups_make(struct kn_lab_cgroups *cgroups);
void kn_cgroups_remove(const struct kn_lab_cgroups *cgroups);
int kn_cgroup_pod(const struct kn_lab_cgroups *cgroups, const char *name, uint64_t cpu_milli, uint64_t memory,
                  struct kn_error *err);
const char *kn_cgroup_limits(const struct kn_lab_cgroups *cgroups); /* what of a pod can be limited, in words */
/* whether the kernel ended a process of it for the memory that it took */
bool kn_cgroup_out_of_memory(const struct kn_lab_cgroups *cgroups, const char *name);
void kn_cgroup_join(const struct kn_lab_cgroups *cgroups, const char *name);
json_t *kn_cgroup_list(const struct kn_lab_cgroups *cgroups, const char *name); /* the files that take a process in */
void kn_cgroup_pod_gone(const struct kn_lab_cgroups *cgroups, const char *name);

/* ---- seccomp.c ---- */
int kn_seccomp_harden(struct kn_error *err); /* what container engines forbid by default; for this process, for good */

/* ---- usage.c ---- */
/* What a pod or node's agent costs, seen from its host: {"cpu_ns"?,"memory_bytes"?,"host_pids"}. */
json_t *kn_lab_usage(const struct kn_keeper *keeper, pid_t first, const char *name);

/* ---- ready.c ---- */
void kn_lab_one_line(char *text);                                   /* what is no letter becomes a space */
/* What a sandbox reads from: nothing. Not the machine's /dev/null, for runsc gives away what it is given (chown to nobody). -1: none to be had. */
int kn_lab_empty_input(void);
/* The end of what it wrote, as one line; where a guest's kernel panicked, that, and true once it is all said. */
bool kn_lab_last_words(const char *name, char *buf, size_t size);
#define LAB_READY_NS (10ull * 1000000000ull)
int kn_lab_await_port(struct kn_keeper *keeper, const struct kn_spawn *spawn, pid_t pid, struct kn_error *err);

/* ---- names.c: what the lab knows, as files that its pods see ---- */
void kn_names_mount(void);
void kn_names_add(const char *name, const struct kn_ip ip[2]);
void kn_names_add_service(const struct kn_lab_service *service);
void kn_names_write(const struct kn_keeper *keeper); /* all of them anew */
/* Where a program can be run: {"pid","cgroups"}. */
json_t *kn_place_json(const struct kn_lab_cgroups *cgroups, pid_t pid, const char *name);
void kn_place_write(const struct kn_lab_cgroups *cgroups, pid_t pid, const char *name);
void kn_place_remove(const char *name);
json_t *kn_place_read(const char *name, struct kn_error *err); /* for a process inside */

/* ---- enter.c: in the opener ---- */
/* PID 0 in `where`: the keeper's own namespaces. Keeper 0: this process is in the lab. When `stop_fd` is readable a
 * program whose output is captured is killed: KN_E_INTERRUPTED. */
json_t *kn_lab_run(pid_t keeper, const json_t *where, const json_t *request, int stop_fd, struct kn_error *err);
/* ---- start.c: namespaces ---- */
/* forks; the child never returns */
pid_t kn_warden_start(struct kn_lab_options *options, int request_fd, struct kn_error *err);

#endif
