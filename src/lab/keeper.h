/* lab/keeper - the lab's internal header: the keeper's tables and the functions that the lab's files share.
 *
 * The keeper is single-threaded and lives in the fabric's network namespace. To work in another one it enters it
 * (kn_netns_enter) and always returns (kn_netns_back). Interface numbers are fixed, so nothing is looked up. */
#ifndef KN_LAB_KEEPER_H
#define KN_LAB_KEEPER_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "core/error.h"
#include "lab/link.h"
#include "net/addr.h"

#define LAB_NAME_MAX 63
#define LAB_NODES_MAX 1000
#define LAB_PODS_MAX 1000
#define LAB_SERVICES_MAX 1000
#define LAB_IDLE_MAX 20000
#define LAB_ENDPOINTS_MAX 250
#define LAB_POLICIES_MAX 10000
#define LAB_PORTS_MAX 16
#define LAB_RUN "/run/knbl"
#define LAB_KEEPER_CGROUP "keeper"
#define LAB_NODE_PORT_FIRST 30000
#define LAB_NETWORKS_MAX 14
#define LAB_POD_NETWORKS_MAX 8

/* The lab's folders of cpu, cpuacct and memory (v2: only the first); empty if the lab may not make them. */
enum { LAB_CGROUPS = 3 };
struct kn_lab_cgroups {
    int version;
    char folder[LAB_CGROUPS][PATH_MAX];
};

struct kn_lab_options {
    unsigned mtu, services;
    bool v4, v6, vxlan, chains;
    uint16_t port;
    char token[129];
    struct kn_lab_cgroups cgroups; /* made by the warden */
};
/* Whether it has the family of the addresses [i]: IPv4, IPv6. */
static inline bool kn_lab_has(const struct kn_lab_options *options, int i)
{
    return i == 0 ? options->v4 : options->v6;
}

struct kn_lab_node {
    char name[LAB_NAME_MAX + 1];
    unsigned index; /* from 1; addresses and interfaces follow from it */
    unsigned mtu;   /* of its pods */
    bool announced; /* the others have a route to its pods */
    int netns;
    struct nl_sock *nl;
    struct kn_ip ip[2]; /* IPv4, IPv6 */
    pid_t pid;          /* of its agent; 0: ended */
    int exit_status;
    uint16_t port;
    bool policed; /* has the chains of policies */
    struct kn_lab_node *next;
};

struct kn_lab_pod;
/* A runtime is the way in which a pod's processes are isolated.
 *
 * `probe` tells whether the runtime works here. It adds strings to `about`: "version", "platform", "network", and
 * "label" if the name alone would mislead ("kata (qemu 7.2, emulated)"); or it fails with KN_E_UNSUPPORTED and what to
 * install. It runs once in a lab, before the first such pod.
 * `start` returns when the agent, or the pod's own command, is ready; the pod's network exists before. The pod has
 * ended when its first process, `pid`, has. */
struct kn_lab_keeper;
struct kn_lab_runtime {
    const char *name;
    bool node_network; /* the pod has the node's namespace and addresses */
    bool guest;        /* the pod's addresses are its guest's; its namespace has none, and `exec` does not work */
    int (*probe)(struct kn_lab_keeper *keeper, json_t *about, struct kn_error *err);
    int (*start)(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err);
};
extern const struct kn_lab_runtime kn_lab_runc, kn_lab_host, kn_lab_gvisor, kn_lab_kata;
enum { LAB_RUNTIMES_MAX = 8 };
struct kn_lab_probe {
    bool done;
    json_t *about;
    struct kn_error why;
};
const struct kn_lab_runtime *kn_lab_runtime_find(const char *name, struct kn_error *err);
/* Returns what the probe found, owned by the keeper; NULL with the reason if the runtime does not work here. */
const json_t *kn_lab_runtime_about(struct kn_lab_keeper *keeper, const struct kn_lab_runtime *runtime,
                                   struct kn_error *err);
json_t *kn_lab_runtimes_json(struct kn_lab_keeper *keeper);

/* A secondary network: a bridge in the fabric, which pods join with an interface of their own (network.c). */
struct kn_lab_network {
    char name[LAB_NAME_MAX + 1];
    unsigned index; /* from 1 */
    struct kn_lab_network *next;
};
/* An interface of a pod beside eth0. */
struct kn_lab_extra {
    char network[LAB_NAME_MAX + 1], interface[16];
    unsigned port; /* its other end in the fabric; 0: none yet */
    struct kn_ip ip[2];
};

struct kn_lab_pod {
    char name[LAB_NAME_MAX + 1];
    struct kn_lab_node *node;
    const struct kn_lab_runtime *runtime;
    unsigned index; /* in the lab: names the interface; 1 and up */
    unsigned slot;  /* on the node: makes the address */
    unsigned mtu;
    int netns; /* -1 where it is the node's */
    struct kn_ip ip[2];
    pid_t pid; /* 0: ended */
    int exit_status;
    uint16_t port;
    bool agent;
    unsigned started_ms;                       /* what `start` took */
    const json_t *about;                       /* what the runtime's probe found */
    json_t *own;                               /* what differs from `about` in this pod; may be NULL */
    uint64_t cpu_milli, memory, bandwidth_bps; /* limits; 0: none */
    bool hardened;
    size_t n_extra;
    struct kn_lab_extra extra[LAB_POD_NETWORKS_MAX];
    struct kn_lab_pod *next;
};

struct kn_lab_port {
    uint16_t port, target, node_port;
    bool tcp, udp;
}; /* target 0: the endpoint's port if it has one, else `port` */

/* A pod or a node behind a Service. `id` is its short name in the names of chains, whose length is limited. */
struct kn_lab_endpoint {
    const void *owner;
    const struct kn_lab_node *node;
    const char *name;
    char id[8];
    const struct kn_ip *ip;
    uint16_t port;
    bool agent;
};

#define LAB_EXTERNAL_MAX 10
struct kn_lab_service {
    char name[LAB_NAME_MAX + 1];
    unsigned index;
    bool headless, affinity, node_ports;
    bool only_local; /* externalTrafficPolicy Local */
    struct kn_ip ip[2];
    struct kn_ip external[LAB_EXTERNAL_MAX]; /* taken by every node */
    size_t n_ports, n_endpoints, n_external;
    struct kn_lab_port ports[LAB_PORTS_MAX];
    struct kn_lab_endpoint *endpoints;
    struct kn_lab_service *next;
};

struct kn_lab_keeper {
    struct kn_lab_options options;
    int request_fd, signal_fd;
    int netns, pidns;   /* its own: the way back */
    struct nl_sock *nl; /* in the fabric */
    pid_t outer_pid;    /* the keeper's PID as the opener sees it */
    struct kn_lab_node *nodes;
    struct kn_lab_pod *pods;
    struct kn_lab_service *services;
    struct kn_lab_policy *policies;
    struct kn_lab_network *networks;
    struct kn_lab_probe probes[LAB_RUNTIMES_MAX];
};

/* ---- options.c, request.c: requests ---- */
enum kn_lab_kind { LAB_TEXT, LAB_NUMBER, LAB_BOOL, LAB_LIST, LAB_QUANTITY /* a number or a string */, LAB_OBJECT };
struct kn_lab_field {
    const char *name;
    enum kn_lab_kind kind;
};
int kn_lab_check(const json_t *object, const char *what, const struct kn_lab_field *fields, size_t n,
                 struct kn_error *err);
int kn_lab_options_read(const json_t *json, struct kn_lab_options *out, struct kn_error *err);
int kn_lab_name_check(const char *name, struct kn_error *err);
int kn_lab_number(const json_t *object, const char *key, long long low, long long high, long long missing,
                  long long *out, struct kn_error *err);
/* The index of one of `choices`; a missing key leaves *out as it is. */
int kn_lab_choice(const json_t *object, const char *key, const char *const *choices, size_t n, size_t *out,
                  struct kn_error *err);
/* Appends "; did you mean 'NEAR'?" to the message; NULL appends nothing. Returns -1. */
int kn_lab_suggest(struct kn_error *err, const char *near);
json_t *kn_lab_handle(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err);

/* ---- keeper.c ---- */
/* Runs as PID 1 of the new namespaces, until the lab ends. */
int kn_lab_keeper_main(const struct kn_lab_options *options, int request_fd, int warden_fd);

/* ---- tables.c ---- */
/* Copies the requested name, if it is valid and free, or makes one. */
int kn_lab_name_take(struct kn_lab_keeper *keeper, const json_t *request, const char *kind, char name[LAB_NAME_MAX + 1],
                     struct kn_error *err);
struct kn_lab_node *kn_lab_node_find(struct kn_lab_keeper *keeper, const char *name);
struct kn_lab_pod *kn_lab_pod_find(struct kn_lab_keeper *keeper, const char *name);
struct kn_lab_service *kn_lab_service_find(struct kn_lab_keeper *keeper, const char *name);
/* For "did you mean", among the nodes, and the pods and Services if asked; NULL if no name is similar. */
const char *kn_lab_name_near(struct kn_lab_keeper *keeper, const char *word, bool pods, bool services);
/* Fails if `owner` is an endpoint of a Service. */
int kn_lab_service_free_of(const struct kn_lab_keeper *keeper, const void *owner, const char *name,
                           struct kn_error *err);

/* ---- frame.c: messages between the opener and the keeper: a length of 4 bytes, then JSON ---- */
int kn_frame_send(int fd, const json_t *message, struct kn_error *err);
json_t *kn_frame_receive(int fd, struct kn_error *err); /* KN_E_LOST: the other side has ended */
json_t *kn_lab_error_json(const struct kn_error *err);

/* ---- netns.c ---- */
int kn_netns_new(int *fd, struct kn_error *err); /* the caller is in the new namespace afterwards */
int kn_netns_enter(int fd, struct kn_error *err);
/* Returns to the keeper's own namespace; -1 if that fails or `bad` is not 0, whose error stays in `err`. */
int kn_netns_back(const struct kn_lab_keeper *keeper, int bad, struct kn_error *err);
struct nl_sock *kn_netns_socket(struct kn_error *err); /* rtnetlink in the caller's namespace */
int kn_sysctl_write(const char *name, const char *value, struct kn_error *err);
/* in the caller's namespace */
int kn_netns_sysctls(const struct kn_lab_options *options, bool forwards, struct kn_error *err);

/* ---- node.c, overlay.c, pod_options.c, pod.c, service.c, nft.c ---- */
int kn_lab_fabric_make(struct kn_lab_keeper *keeper, struct kn_error *err);
json_t *kn_lab_node_add(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err);
json_t *kn_lab_node_json(const struct kn_lab_keeper *keeper, const struct kn_lab_node *node);
int kn_lab_node_delete(struct kn_lab_keeper *keeper, struct kn_lab_node *node, struct kn_error *err);
unsigned kn_lab_pod_mtu(const struct kn_lab_options *options); /* the fabric's less the overlay's header */
/* Adds routes from a new node to the pods of all others. */
int kn_overlay_join(struct kn_lab_keeper *keeper, struct kn_lab_node *node, struct kn_error *err);
/* Adds routes from all others to this node's pods; before its first pod. */
int kn_overlay_announce(struct kn_lab_keeper *keeper, struct kn_lab_node *node, struct kn_error *err);
int kn_lab_pod_read(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err);
json_t *kn_lab_pod_add(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err);
json_t *kn_lab_pod_json(const struct kn_lab_keeper *keeper, const struct kn_lab_pod *pod);
int kn_lab_pod_delete(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, struct kn_error *err);
json_t *kn_lab_service_add(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err);
json_t *kn_lab_service_json(const struct kn_lab_keeper *keeper, const struct kn_lab_service *service);
int kn_lab_service_delete(struct kn_lab_keeper *keeper, struct kn_lab_service *service, struct kn_error *err);
/* Takes `owner`, which is being deleted, out of the endpoints of all Services. One that has none left drops packets. */
int kn_lab_services_leave(struct kn_lab_keeper *keeper, const void *owner, struct kn_error *err);

/* ---- network.c: secondary networks ---- */
int kn_lab_networks_read(struct kn_lab_pod *pod, const json_t *request, struct kn_error *err);
/* In the pod's namespace. */
int kn_lab_networks_furnish(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, struct nl_sock *nl,
                            struct kn_error *err);
int kn_lab_networks_connect(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, struct kn_error *err);
void kn_lab_networks_leave(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod);
void kn_lab_networks_json(const struct kn_lab_pod *pod, json_t *into);

/* ---- policy.c: which traffic pods let in ---- */
struct kn_lab_policy;
json_t *kn_lab_policy_add(struct kn_lab_keeper *keeper, const json_t *request, struct kn_error *err);
struct kn_lab_policy *kn_lab_policy_find(struct kn_lab_keeper *keeper, const char *name);
int kn_lab_policy_delete(struct kn_lab_keeper *keeper, struct kn_lab_policy *policy, struct kn_error *err);
/* Fails if a policy selects the pod. */
int kn_lab_policy_free_of(const struct kn_lab_keeper *keeper, const struct kn_lab_pod *pod, struct kn_error *err);

/* ---- nft.c ---- */
struct kn_text {
    char *data;
    size_t used, size;
    bool failed;
};
void kn_text_add(struct kn_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void kn_nft_base(struct kn_text *text, const struct kn_lab_options *options);
void kn_nft_service(struct kn_text *text, const struct kn_lab_options *options, const struct kn_lab_service *service,
                    const struct kn_lab_node *node);
void kn_nft_service_gone(struct kn_text *text, const struct kn_lab_options *options,
                         const struct kn_lab_service *service, const struct kn_lab_service *all);
/* `gone` is no endpoint of the Service any more. The others keep their counters and the clients they had (affinity). */
void kn_nft_endpoint_gone(struct kn_text *text, const struct kn_lab_options *options,
                          const struct kn_lab_service *service, const struct kn_lab_node *node,
                          struct kn_lab_endpoint *gone);
int kn_nft_backends(const struct kn_lab_keeper *keeper, const struct kn_lab_node *node, const char *service,
                    json_t *into, struct kn_error *err);

/* ---- nft_run.c: the program nft, in the caller's namespace ---- */
/* In a node's namespace, where the caller is afterwards; in as few transactions as possible. Frees the rules. */
int kn_nft_run(const struct kn_lab_node *node, struct kn_text *rules, struct kn_error *err);
int kn_nft_ask(const char *command, json_t **answer, struct kn_error *err);

/* ---- spawn.c: processes in a pod or on a node ---- */
struct kn_spawn {
    const char *name, *node;
    int netns;
    struct kn_ip listen; /* family 0: every address */
    uint16_t port;
    const json_t *command;      /* NULL: the agent */
    uint64_t cpu_milli, memory; /* limits; 0: none */
    bool hardened;
    /* Execs the program of the pod's sandbox, in a child of the pod's first process and in the pod's namespaces and
     * mounts; its output is the pod's log. NULL: no sandbox. */
    int (*sandbox)(const struct kn_lab_keeper *keeper, const struct kn_lab_pod *pod, const json_t *request,
                   struct kn_error *err);
    const struct kn_lab_pod *pod;
    const json_t *request;
    uint64_t ready_ns; /* the time limit of a sandbox; 0: LAB_SANDBOX_NS */
};
/* Forks the first process of a new PID namespace, with mounts and a host name of its own; returns when it is ready, or
 * fails with its error. */
pid_t kn_spawn(struct kn_lab_keeper *keeper, const struct kn_spawn *spawn, struct kn_error *err);
/* What a pod and its request say; and kn_spawn with no more than that. */
struct kn_spawn kn_spawn_of(const struct kn_lab_pod *pod, const json_t *request);
int kn_spawn_plain(struct kn_lab_keeper *keeper, struct kn_lab_pod *pod, const json_t *request, struct kn_error *err);
/* The path of an agent's control socket, valid for the opener. */
char *kn_control_path(const struct kn_lab_keeper *keeper, const char *name, char *buf, size_t size);

/* ---- process.c ---- */
void kn_end_process(pid_t *pid); /* kills and reaps it; sets it to 0 */
int kn_exit_status(int wait_status);
/* Reads from `fd` into `text`, which keeps the end, until `word` is there, end of file, or the deadline. `word` may be
 * NULL. Returns 1, 0 or -1. */
int kn_read_until(int fd, const char *word, uint64_t timeout_ns, char *text, size_t size);
int kn_reap_until(pid_t pid); /* reaps children until `pid` has ended; returns its exit status */
/* Forks a child that is PID 1 of a namespace of its own. */
pid_t kn_fork_apart(const struct kn_lab_keeper *keeper, struct kn_error *err);
/* A descriptor at its end of file for a sandbox to read. Not the machine's /dev/null: runsc gives its standard input
 * away (chown to nobody). -1 on failure. */
int kn_lab_empty_input(void);
bool kn_lab_installed(const char *program); /* in PATH */

/* ---- sandbox.c, relay.c, bundle.c: pods in a sandbox ---- */
#define LAB_SANDBOX_NS (60ull * 1000000000ull) /* a guest may boot in software, on a busy machine */
#define LAB_BUNDLE LAB_RUN "/bundle"
enum { LAB_READY_FD = 3, LAB_OUTSIDE_FD = 4 }; /* in the pod's first process: for kn_ready_report; the node's network */
/* Whether a connection is accepted there or, with `udp`, a datagram: a command may serve UDP only. *udp_next_ns, at
 * first 0, is the time of the next UDP try: kernels refuse one datagram a second (icmp_ratelimit). */
bool kn_lab_answers(const struct kn_addr *to, bool udp, int patience_ms, uint64_t *udp_next_ns);
int kn_sandbox_run(const struct kn_lab_keeper *keeper, const struct kn_spawn *spawn); /* the pod's first process */
void kn_relay_run(int listener, const struct kn_addr *to);
/* An OCI bundle that runs `argv`. */
int kn_bundle_make(const struct kn_lab_keeper *keeper, const char *name, const json_t *argv, struct kn_error *err);

/* ---- cgroup.c ---- */
void kn_cgroups_make(struct kn_lab_cgroups *cgroups);
void kn_cgroups_remove(const struct kn_lab_cgroups *cgroups);
int kn_cgroup_pod(const struct kn_lab_cgroups *cgroups, const char *name, uint64_t cpu_milli, uint64_t memory,
                  struct kn_error *err);
const char *kn_cgroup_limits(const struct kn_lab_cgroups *cgroups); /* "CPU and memory", "CPU", "memory" or "none" */
/* Whether the kernel killed one of its processes for exceeding the memory limit. */
bool kn_cgroup_out_of_memory(const struct kn_lab_cgroups *cgroups, const char *name);
void kn_cgroup_join(const struct kn_lab_cgroups *cgroups, const char *name);
json_t *kn_cgroup_list(const struct kn_lab_cgroups *cgroups,
                       const char *name); /* the paths of its cgroup.procs files */
void kn_cgroup_pod_gone(const struct kn_lab_cgroups *cgroups, const char *name);

/* ---- seccomp.c ---- */
int kn_seccomp_harden(struct kn_error *err); /* for this process, permanently */

/* ---- usage.c ---- */
/* What a pod or a node's agent uses, as its host sees it: {"cpu_ns"?,"memory_bytes"?,"host_pids"}. */
json_t *kn_lab_usage(const struct kn_lab_keeper *keeper, pid_t first, const char *name);

/* ---- ready.c ---- */
#define LAB_READY_NS (10ull * 1000000000ull)
/* In the new process, once: it is ready (NULL), or its error. */
void kn_ready_report(const struct kn_error *err);
int kn_ready_await(int fd, const struct kn_spawn *spawn, struct kn_error *err);
int kn_ready_await_port(struct kn_lab_keeper *keeper, const struct kn_spawn *spawn, pid_t pid, struct kn_error *err);
void kn_lab_one_line(char *text); /* control characters become spaces */
/* The end of the pod's log, as one line; of a guest whose kernel panicked the message of the panic. True if that is
 * complete. */
bool kn_lab_last_words(const char *name, char *buf, size_t size);

/* ---- names.c: files in the lab that its pods see ---- */
void kn_names_mount(void);
void kn_names_add(const char *name, const struct kn_ip ip[2]);
void kn_names_add_service(const struct kn_lab_service *service);
void kn_names_write(const struct kn_lab_keeper *keeper); /* rewrites all of them */
/* How to enter a pod or a node: {"pid","cgroups"}. */
json_t *kn_place_json(const struct kn_lab_cgroups *cgroups, pid_t pid, const char *name);
void kn_place_write(const struct kn_lab_cgroups *cgroups, pid_t pid, const char *name);
void kn_place_remove(const char *name);
json_t *kn_place_read(const char *name, struct kn_error *err); /* for a process in the lab */

/* ---- enter.c: in the opener ---- */
/* PID 0 in `where`: the keeper's own namespaces. Keeper 0: this process is in the lab already. When `stop_fd` becomes
 * readable, a program whose output is captured is killed: KN_E_INTERRUPTED. */
json_t *kn_lab_run(pid_t keeper, const json_t *where, const json_t *request, int stop_fd, struct kn_error *err);
/* ---- start.c: namespaces ---- */
/* Forks; the child does not return. */
pid_t kn_warden_start(struct kn_lab_options *options, int request_fd, struct kn_error *err);

#endif
