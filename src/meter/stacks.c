#include "meter/stacks.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/thread.h"
#include "meter/files.h"
#include "meter/fold.h"
#include "meter/symbols.h"

#define RING_PAGES 32u              /* a power of two, and one more page in front: 128 KiB hold some 200 deep stacks */
#define DRAIN_NS (100 * KN_NS_PER_MS)
#define DEPTH_MAX 512u              /* frames of a stack; the kernel's own limit is 127 a side */
#define CPUS_MAX 4096u

/* One CPU's events, and the ring that the kernel writes them into. */
struct ring { int fd; struct perf_event_mmap_page *page; };

struct kn_stacks {
    struct kn_stacks_options options;
    struct ring *rings;
    unsigned n_rings;
    bool cycles;
    int quit;                       /* eventfd: stop */
    pthread_t thread;
    bool started;
    struct kn_fold *fold;
    struct kn_symbols *kernel;      /* NULL: not shown to us */
    struct kn_processes *processes;
    char missing[512];              /* why there are no names of the kernel's functions */
    uint64_t begun_ns, ended_ns;    /* 0: not yet */
    struct kn_cpu_reading begun, ended;
    uint64_t samples, idle, lost;
    double weight;                  /* of cycles the samples are not all of the same size */
    uint32_t frames[DEPTH_MAX];
    uint64_t record[65536 / 8];     /* the longest there is */
};

/* ---- the events ---- */

static int perf_open(struct perf_event_attr *attr, int cpu)
{
    return (int)syscall(SYS_perf_event_open, attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

static struct perf_event_attr attributes(bool cycles, unsigned hz)
{
    return (struct perf_event_attr){
        .type = cycles ? PERF_TYPE_HARDWARE : PERF_TYPE_SOFTWARE,
        .config = cycles ? (uint64_t)PERF_COUNT_HW_CPU_CYCLES : (uint64_t)PERF_COUNT_SW_CPU_CLOCK,
        .size = sizeof(struct perf_event_attr), .freq = 1, .sample_freq = hz, .disabled = 1, .watermark = 1,
        .wakeup_watermark = RING_PAGES / 2 * 4096,
        .sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_PERIOD | PERF_SAMPLE_CALLCHAIN,
    };
}

/* A container's filter says EPERM, the kernel itself EACCES. */
static int forbidden(int sys_errno, struct kn_error *err)
{
    char status[4096], level[16] = "?";
    if (kn_file_read("", "/proc/sys/kernel/perf_event_paranoid", level, sizeof level) > 0) level[strcspn(level, "\n")] = 0;
    bool filtered = kn_file_read("", "/proc/self/status", status, sizeof status) > 0 && strstr(status, "\nSeccomp:\t2");
    if (sys_errno == EPERM && filtered)
        return kn_fail_with(err, KN_E_PERMISSION, sys_errno,
                            "profiles are not permitted here: this container's seccomp filter forbids perf_event_open; "
                            "give it CAP_PERFMON (Kubernetes: capabilities, add: [PERFMON, SYSLOG, SYS_PTRACE])");
    return kn_fail_with(err, KN_E_PERMISSION, sys_errno,
                        "profiles are not permitted here: kernel.perf_event_paranoid is %s; run knbl and its agents as root, "
                        "give them CAP_PERFMON, or allow it with `sudo sysctl kernel.perf_event_paranoid=-1`",
                        level);
}

static int refused(int sys_errno, struct kn_error *err)
{
    if (sys_errno == EACCES || sys_errno == EPERM) return forbidden(sys_errno, err);
    if (sys_errno == EMFILE || sys_errno == ENFILE || sys_errno == ENOMEM)
        return kn_fail_from(err, sys_errno, "profiles need more than there is");
    return kn_fail_with(err, KN_E_UNSUPPORTED, sys_errno, "this kernel takes no profiles: perf_event_open: %s",
                        strerror(sys_errno));
}

/* Cycles where there is a counter for them: it interrupts where interrupts are off, too. */
static int open_first(bool *cycles, unsigned hz, struct kn_error *err)
{
    for (int try = 1; try >= 0; try--) {
        struct perf_event_attr attr = attributes(try, hz);
        int fd = perf_open(&attr, 0);
        *cycles = try;
        if (fd >= 0) return fd;
    }
    return refused(errno, err);
}

int kn_stacks_probe(struct kn_error *err)
{
    bool cycles;
    int fd = open_first(&cycles, KN_STACKS_HZ, err);
    return fd < 0 ? -1 : close(fd);
}

static size_t ring_size(void) { return (RING_PAGES + 1) * (size_t)sysconf(_SC_PAGESIZE); }

static int open_ring(struct kn_stacks *s, int cpu, struct kn_error *err)
{
    struct perf_event_attr attr = attributes(s->cycles, s->options.hz);
    int fd = perf_open(&attr, cpu);
    if (fd < 0 && errno == ENODEV) return 0;        /* this CPU is off */
    if (fd < 0) return refused(errno, err);
    void *page = mmap(NULL, ring_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) {
        int saved = errno;
        close(fd);
        return kn_fail_from(err, saved, "no memory may be locked for profiles (see ulimit -l)");
    }
    s->rings[s->n_rings++] = (struct ring){ .fd = fd, .page = page };
    return 0;
}

static int open_rings(struct kn_stacks *s, struct kn_error *err)
{
    long n = sysconf(_SC_NPROCESSORS_CONF);
    int first = open_first(&s->cycles, s->options.hz, err);
    if (first < 0) return -1;
    close(first);
    if (n < 1) n = 1;
    if (n > (long)CPUS_MAX) n = CPUS_MAX;
    if (!(s->rings = calloc((size_t)n, sizeof *s->rings))) return kn_fail_memory(err);
    for (int cpu = 0; cpu < n; cpu++)
        if (open_ring(s, cpu, err)) return -1;
    return s->n_rings ? 0 : kn_fail(err, KN_E_UNSUPPORTED, "there is no CPU to take a profile of");
}

static void switch_all(struct kn_stacks *s, unsigned long how)
{
    for (unsigned i = 0; i < s->n_rings; i++) ioctl(s->rings[i].fd, how, 0);
}

/* ---- a sample ---- */

struct sample { pid_t pid; double weight; const uint64_t *chain; size_t n; };

static bool is_marker(uint64_t address) { return address >= (uint64_t)PERF_CONTEXT_MAX; }

/* An address is where a call returns to, but for the innermost one: one byte back is the call itself. */
static uint64_t place(uint64_t address, bool inner) { return inner || address == 0 ? address : address - 1; }

static const char *kernel_name(const struct kn_stacks *s, uint64_t address)
{
    const char *name = s->kernel ? kn_symbols_find(s->kernel, address) : NULL;
    return name ? name : "[kernel]";
}

/* From the inside out: idle before any interrupt. A CPU without a process may well be busy with packets. */
static bool is_idle(const struct kn_stacks *s, const struct sample *sample)
{
    bool kernel = true, inner = true;
    if (sample->pid != 0) return false;
    if (!s->kernel) return true;
    for (size_t i = 0; i < sample->n; i++) {
        if (is_marker(sample->chain[i])) {
            kernel = sample->chain[i] == (uint64_t)PERF_CONTEXT_KERNEL;
            continue;
        }
        if (!kernel) continue;
        const char *name = kernel_name(s, place(sample->chain[i], inner));
        inner = false;
        if (strstr(name, "irq") || strstr(name, "sysvec") || strstr(name, "interrupt")) return false;
        if (strstr(name, "idle") || strstr(name, "halt") || strstr(name, "mwait")) return true;
    }
    return false;
}

struct stack { uint32_t *frames; size_t n; };   /* filled from the end, the innermost frame last */

static void push(struct stack *stack, uint32_t frame)
{
    if (stack->n < DEPTH_MAX) stack->frames[DEPTH_MAX - ++stack->n] = frame;
}

static void take_stack(struct kn_stacks *s, const struct sample *sample, struct kn_process *process, struct stack *stack)
{
    bool kernel = true, inner = true, lost = !process;
    for (size_t i = 0; i < sample->n; i++) {
        uint64_t address = sample->chain[i];
        if (is_marker(address)) {
            kernel = address == (uint64_t)PERF_CONTEXT_KERNEL;
            inner = inner || !kernel;
        } else if (kernel) {
            push(stack, kn_fold_frame(s->fold, 'k', kernel_name(s, place(address, inner))));
            inner = false;
        } else if (!lost) {
            /* where code has no frame pointers what looks like one leads anywhere: there the stack ends */
            uint64_t offset;
            struct kn_mapping *in = kn_process_map(s->processes, process, place(address, inner), &offset);
            inner = false;
            if (in) push(stack, kn_fold_place(s->fold, in, offset));
            else lost = true;
        }
    }
}

static void take_sample(struct kn_stacks *s, const struct sample *sample)
{
    s->samples++;
    s->weight += sample->weight;
    if (is_idle(s, sample)) {
        s->idle++;
        return;
    }
    struct stack stack = { .frames = s->frames };
    struct kn_process *process = sample->pid > 0 ? kn_processes_get(s->processes, sample->pid) : NULL;
    take_stack(s, sample, process, &stack);
    const char *who = process ? kn_process_name(process) : sample->pid == 0 ? "interrupts of an idle CPU" : "other processes";
    push(&stack, kn_fold_frame(s->fold, 'p', who));
    kn_fold_add(s->fold, stack.frames + DEPTH_MAX - stack.n, stack.n, sample->weight);
}

/* ---- the rings ---- */

/* IP, TID, PERIOD, CALLCHAIN: in the kernel's order. */
static void read_sample(struct kn_stacks *s, const uint64_t *body, size_t words)
{
    uint32_t ids[2];
    if (words < 4 || body[3] > words - 4) return;
    memcpy(ids, &body[1], sizeof ids);
    take_sample(s, &(struct sample){ .pid = (pid_t)ids[0], .weight = s->cycles ? (double)body[2] : 1, .chain = body + 4,
                                     .n = (size_t)body[3] });
}

static void read_record(struct kn_stacks *s, const struct perf_event_header *header, const uint64_t *body)
{
    size_t words = (header->size - sizeof *header) / 8;
    if (header->type == PERF_RECORD_SAMPLE) read_sample(s, body, words);
    if (header->type == PERF_RECORD_LOST && words >= 2) s->lost += body[1];
}

static void copy_out(const struct ring *ring, uint64_t at, void *into, size_t size)
{
    size_t room = RING_PAGES * (size_t)sysconf(_SC_PAGESIZE), from = at & (room - 1);
    const char *data = (const char *)ring->page + sysconf(_SC_PAGESIZE);
    size_t first = size < room - from ? size : room - from;
    memcpy(into, data + from, first);
    memcpy((char *)into + first, data, size - first);
}

static void drain(struct kn_stacks *s, struct ring *ring)
{
    uint64_t head = __atomic_load_n(&ring->page->data_head, __ATOMIC_ACQUIRE), tail = ring->page->data_tail;
    while (tail < head) {
        struct perf_event_header header;
        copy_out(ring, tail, &header, sizeof header);
        if (header.size < sizeof header || header.size > head - tail) {     /* no kernel writes that */
            tail = head;
            break;
        }
        copy_out(ring, tail + sizeof header, s->record, header.size - sizeof header);
        read_record(s, &header, s->record);
        tail += header.size;
    }
    __atomic_store_n(&ring->page->data_tail, tail, __ATOMIC_RELEASE);
}

static void drain_all(struct kn_stacks *s)
{
    for (unsigned i = 0; i < s->n_rings; i++) drain(s, &s->rings[i]);
}

/* ---- the thread ---- */

static void begin(struct kn_stacks *s)
{
    switch_all(s, PERF_EVENT_IOC_ENABLE);
    s->begun_ns = kn_now_ns();
    kn_cpu_read(&s->begun);
}

static void end(struct kn_stacks *s)
{
    if (!s->begun_ns || s->ended_ns) return;
    switch_all(s, PERF_EVENT_IOC_DISABLE);
    s->ended_ns = kn_now_ns();
    kn_cpu_read(&s->ended);
    drain_all(s);
}

/* How long to sleep: until it begins, ends, or the rings want to be looked at. */
static uint64_t next_ns(const struct kn_stacks *s, uint64_t start_ns)
{
    if (!s->begun_ns) return start_ns + s->options.after_ns;
    if (s->ended_ns) return UINT64_MAX;
    uint64_t drain_ns = kn_now_ns() + DRAIN_NS, end_ns = s->begun_ns + s->options.for_ns;
    return s->options.for_ns && end_ns < drain_ns ? end_ns : drain_ns;
}

static bool asked_to_stop(const struct kn_stacks *s, struct pollfd *fds, uint64_t until_ns)
{
    uint64_t now_ns = kn_now_ns(), left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    struct timespec left = { .tv_sec = (time_t)(left_ns / KN_NS_PER_S), .tv_nsec = (long)(left_ns % KN_NS_PER_S) };
    bool watch = s->begun_ns && !s->ended_ns;
    ppoll(fds, watch ? s->n_rings + 1 : 1, until_ns == UINT64_MAX ? NULL : &left, NULL);
    return fds[0].revents != 0;
}

static void *thread_main(void *argument)
{
    struct kn_stacks *s = argument;
    uint64_t start_ns = kn_now_ns();
    struct pollfd *fds = calloc(s->n_rings + 1, sizeof *fds);
    if (!fds) return NULL;
    fds[0] = (struct pollfd){ .fd = s->quit, .events = POLLIN };
    for (unsigned i = 0; i < s->n_rings; i++) fds[i + 1] = (struct pollfd){ .fd = s->rings[i].fd, .events = POLLIN };
    if (s->options.after_ns == 0) begin(s);
    while (!asked_to_stop(s, fds, next_ns(s, start_ns))) {
        uint64_t now_ns = kn_now_ns();
        if (!s->begun_ns && now_ns >= start_ns + s->options.after_ns) begin(s);
        else if (s->begun_ns && !s->ended_ns) drain_all(s);
        if (s->begun_ns && s->options.for_ns && now_ns >= s->begun_ns + s->options.for_ns) end(s);
    }
    end(s);
    free(fds);
    return NULL;
}

/* ---- from start to stop ---- */

static int prepare(struct kn_stacks *s, struct kn_error *err)
{
    struct kn_error why;
    if (open_rings(s, err) || !(s->fold = kn_fold_new(err))) return -1;
    if (!(s->processes = kn_processes_new())) return kn_fail_memory(err);
    if (!(s->kernel = kn_symbols_kernel("", &why))) snprintf(s->missing, sizeof s->missing, "%s", why.message);
    if ((s->quit = eventfd(0, EFD_CLOEXEC)) < 0) return kn_fail_errno(err, "eventfd");
    return 0;
}

static int start_thread(struct kn_stacks *s, struct kn_error *err)
{
    errno = kn_thread_start(&s->thread, "knbl-stacks", thread_main, s);
    s->started = errno == 0;
    return s->started ? 0 : kn_fail_errno(err, "no thread for profiles");
}

struct kn_stacks *kn_stacks_start(const struct kn_stacks_options *options, struct kn_error *err)
{
    struct kn_stacks *s = calloc(1, sizeof *s);
    if (!s) {
        kn_fail_memory(err);
        return NULL;
    }
    s->options = *options;
    s->quit = -1;
    if (s->options.hz == 0) s->options.hz = KN_STACKS_HZ;
    if (s->options.hz > KN_STACKS_HZ_MAX) kn_fail(err, KN_E_ARGUMENT, "profiles take at most %d samples a second", KN_STACKS_HZ_MAX);
    else if (prepare(s, err) == 0 && start_thread(s, err) == 0) return s;
    kn_stacks_free(s);
    return NULL;
}

static void halt(struct kn_stacks *s)
{
    uint64_t one = 1;
    ssize_t n = s->started ? write(s->quit, &one, sizeof one) : 0;
    (void)n;
    if (s->started) pthread_join(s->thread, NULL);
    s->started = false;
}

void kn_stacks_free(struct kn_stacks *s)
{
    if (!s) return;
    halt(s);
    for (unsigned i = 0; i < s->n_rings; i++) {
        munmap(s->rings[i].page, ring_size());
        close(s->rings[i].fd);
    }
    if (s->quit >= 0) close(s->quit);
    kn_fold_free(s->fold);
    kn_symbols_free(s->kernel);
    kn_processes_free(s->processes);
    free(s->rings);
    free(s);
}

/* Samples of a clock are time. Those of cycles are not: then it is what the node says of itself. */
static void put_busy(const struct kn_stacks *s, json_t *out)
{
    uint64_t from = s->begun.node_busy_ns, to = s->ended.node_busy_ns;
    if (!s->cycles) json_object_set_new(out, "busy_s", json_real((double)(s->samples - s->idle) / s->options.hz));
    else if (s->ended_ns && from != KN_ABSENT && to != KN_ABSENT && to > from)
        json_object_set_new(out, "busy_s", json_real((double)(to - from) / 1e9));
}

static const char *name_of(void *in, uint64_t offset) { return kn_mapping_name(in, offset); }

/* Programs are looked at only now: to read their symbols costs time that is not to be measured. */
static int name_all(struct kn_stacks *s)
{
    struct kn_error err;
    struct kn_fold *named = kn_fold_named(s->fold, name_of, &err);
    if (!named) return -1;
    kn_fold_free(s->fold);
    s->fold = named;
    return 0;
}

json_t *kn_stacks_stop(struct kn_stacks *s)
{
    halt(s);
    double duration_s = s->begun_ns ? (double)(s->ended_ns - s->begun_ns) / 1e9 : 0;
    /* samples of cycles become samples of the mean size */
    double scale = s->weight > 0 ? (double)s->samples / s->weight : 1;
    json_t *out = json_pack("{s:s, s:i, s:i, s:f, s:I, s:I, s:I}", "event", s->cycles ? "cycles" : "cpu-clock", "hz",
                            (int)s->options.hz, "cpus", (int)s->n_rings, "duration_s", duration_s, "samples",
                            (json_int_t)s->samples, "idle", (json_int_t)s->idle, "lost", (json_int_t)s->lost);
    if (!out) return NULL;
    put_busy(s, out);
    if (s->missing[0]) json_object_set_new(out, "missing", json_pack("[s]", s->missing));
    if (name_all(s) == 0 && kn_fold_json(s->fold, scale, KN_FOLD_KEEP, out) == 0) return out;
    json_decref(out);
    return NULL;
}
