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
#include <unistd.h>

#include "core/clock.h"
#include "core/json.h"
#include "core/thread.h"
#include "meter/fold.h"
#include "meter/meter.h"
#include "meter/rings.h"
#include "meter/symbols.h"

#define DRAIN_NS (100 * KN_NS_PER_MS)
#define DEPTH_MAX 512u /* frames of a stack; the kernel's limit is 127 for each side */

struct kn_stacks {
    struct kn_stacks_options options;
    struct kn_rings rings;
    struct pollfd *fds; /* quit, then the rings */
    int quit;           /* eventfd: stop */
    pthread_t thread;
    bool started;
    struct kn_fold *fold;
    struct kn_symbols *kernel; /* NULL: not readable */
    struct kn_processes *processes;
    char missing[512];           /* why the kernel's functions have no names */
    uint64_t begun_ns, ended_ns; /* 0: not yet */
    struct kn_cpu_reading begun, ended;
    uint64_t samples, idle;
    double weight; /* samples of cycles differ in size */
    uint32_t frames[DEPTH_MAX];
};

/* ---- a sample ---- */

static bool is_marker(uint64_t address)
{
    return address >= (uint64_t)PERF_CONTEXT_MAX;
}

/* All addresses but the innermost are return addresses: one byte back is the call. */
static uint64_t place(uint64_t address, bool inner)
{
    return inner || address == 0 ? address : address - 1;
}

static const char *kernel_name(const struct kn_stacks *s, uint64_t address)
{
    const char *name = s->kernel ? kn_symbols_find(s->kernel, address) : NULL;
    return name ? name : "[kernel]";
}

/* From the innermost frame: idle before any interrupt. A CPU without a process may still be busy with packets. */
static bool is_idle(const struct kn_stacks *s, const struct kn_sample *sample)
{
    bool kernel = true, inner = true;
    if (sample->pid != 0)
        return false;
    if (!s->kernel)
        return true;
    for (size_t i = 0; i < sample->n; i++) {
        if (is_marker(sample->chain[i])) {
            kernel = sample->chain[i] == (uint64_t)PERF_CONTEXT_KERNEL;
            continue;
        }
        if (!kernel)
            continue;
        const char *name = kernel_name(s, place(sample->chain[i], inner));
        inner = false;
        if (strstr(name, "irq") || strstr(name, "sysvec") || strstr(name, "interrupt"))
            return false;
        if (strstr(name, "idle") || strstr(name, "halt") || strstr(name, "mwait"))
            return true;
    }
    return false;
}

struct stack {
    uint32_t *frames;
    size_t n;
}; /* filled from the end; the innermost frame is last */

static void push(struct stack *stack, uint32_t frame)
{
    if (stack->n < DEPTH_MAX)
        stack->frames[DEPTH_MAX - ++stack->n] = frame;
}

static void take_stack(struct kn_stacks *s, const struct kn_sample *sample, struct kn_process *process,
                       struct stack *stack)
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
            /* in code without frame pointers the chain leads to a wrong address: the stack ends there */
            uint64_t offset;
            struct kn_mapping *in = kn_process_map(s->processes, process, place(address, inner), &offset);
            inner = false;
            if (in)
                push(stack, kn_fold_place(s->fold, in, offset));
            else
                lost = true;
        }
    }
}

static void take_sample(void *context, const struct kn_sample *sample)
{
    struct kn_stacks *s = context;
    s->samples++;
    s->weight += sample->weight;
    if (is_idle(s, sample)) {
        s->idle++;
        return;
    }
    struct stack stack = {.frames = s->frames};
    struct kn_process *process = sample->pid > 0 ? kn_processes_get(s->processes, sample->pid) : NULL;
    take_stack(s, sample, process, &stack);
    const char *who = process            ? kn_process_name(process)
                      : sample->pid == 0 ? "interrupts of an idle CPU"
                                         : "other processes";
    push(&stack, kn_fold_frame(s->fold, 'p', who));
    kn_fold_add(s->fold, stack.frames + DEPTH_MAX - stack.n, stack.n, sample->weight);
}

/* ---- the thread ---- */

static void begin(struct kn_stacks *s)
{
    kn_rings_switch(&s->rings, true);
    s->begun_ns = kn_now_ns();
    kn_cpu_read(&s->begun);
}

static void end(struct kn_stacks *s)
{
    if (!s->begun_ns || s->ended_ns)
        return;
    kn_rings_switch(&s->rings, false);
    s->ended_ns = kn_now_ns();
    kn_cpu_read(&s->ended);
    kn_rings_drain(&s->rings, take_sample, s);
}

/* The time until the profile begins or ends, or the rings must be drained. */
static uint64_t next_ns(const struct kn_stacks *s, uint64_t start_ns)
{
    if (!s->begun_ns)
        return start_ns + s->options.after_ns;
    if (s->ended_ns)
        return UINT64_MAX;
    uint64_t drain_ns = kn_now_ns() + DRAIN_NS, end_ns = s->begun_ns + s->options.for_ns;
    return s->options.for_ns && end_ns < drain_ns ? end_ns : drain_ns;
}

static bool asked_to_stop(const struct kn_stacks *s, struct pollfd *fds, uint64_t until_ns)
{
    uint64_t now_ns = kn_now_ns(), left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
    struct timespec left = kn_timespec(left_ns);
    bool watch = s->begun_ns && !s->ended_ns;
    ppoll(fds, watch ? s->rings.n + 1 : 1, until_ns == UINT64_MAX ? NULL : &left, NULL);
    return fds[0].revents != 0;
}

static void *thread_main(void *argument)
{
    struct kn_stacks *s = argument;
    uint64_t start_ns = kn_now_ns();
    struct pollfd *fds = s->fds;
    fds[0] = (struct pollfd){.fd = s->quit, .events = POLLIN};
    for (unsigned i = 0; i < s->rings.n; i++)
        fds[i + 1] = (struct pollfd){.fd = s->rings.list[i].fd, .events = POLLIN};
    if (s->options.after_ns == 0)
        begin(s);
    while (!asked_to_stop(s, fds, next_ns(s, start_ns))) {
        uint64_t now_ns = kn_now_ns();
        if (!s->begun_ns && now_ns >= start_ns + s->options.after_ns)
            begin(s);
        else if (s->begun_ns && !s->ended_ns)
            kn_rings_drain(&s->rings, take_sample, s);
        if (s->begun_ns && s->options.for_ns && now_ns >= s->begun_ns + s->options.for_ns)
            end(s);
    }
    end(s);
    return NULL;
}

/* ---- start and stop ---- */

int kn_stacks_probe(struct kn_error *err)
{
    return kn_rings_probe(KN_STACKS_HZ, err);
}

static int prepare(struct kn_stacks *s, struct kn_error *err)
{
    struct kn_error why;
    if (kn_rings_open(&s->rings, s->options.hz, err) || !(s->fold = kn_fold_new(err)))
        return -1;
    s->fds = calloc(s->rings.n + 1, sizeof *s->fds);
    s->processes = kn_processes_new();
    if (!s->fds || !s->processes)
        return kn_fail_memory(err);
    if (!(s->kernel = kn_symbols_kernel("", &why)))
        snprintf(s->missing, sizeof s->missing, "%s", why.message);
    if ((s->quit = eventfd(0, EFD_CLOEXEC)) < 0)
        return kn_fail_errno(err, "eventfd");
    return 0;
}

static int start_thread(struct kn_stacks *s, struct kn_error *err)
{
    errno = kn_thread_start(&s->thread, "knbl-stacks", thread_main, s);
    s->started = errno == 0;
    return s->started ? 0 : kn_fail_errno(err, "cannot start the profile's thread");
}

struct kn_stacks *kn_stacks_start(const struct kn_stacks_options *options, struct kn_error *err)
{
    struct kn_stacks *s = calloc(1, sizeof *s);
    if (!s)
        return kn_null(kn_fail_memory(err));
    s->options = *options;
    s->quit = -1;
    if (s->options.hz == 0)
        s->options.hz = KN_STACKS_HZ;
    if (s->options.hz > KN_STACKS_HZ_MAX)
        kn_fail(err, KN_E_ARGUMENT, "hz of a profile must be at most %d", KN_STACKS_HZ_MAX);
    else if (prepare(s, err) == 0 && start_thread(s, err) == 0)
        return s;
    kn_stacks_free(s);
    return NULL;
}

static void halt(struct kn_stacks *s)
{
    uint64_t one = 1;
    ssize_t n = s->started ? write(s->quit, &one, sizeof one) : 0;
    (void)n;
    if (s->started)
        pthread_join(s->thread, NULL);
    s->started = false;
}

void kn_stacks_free(struct kn_stacks *s)
{
    if (!s)
        return;
    halt(s);
    kn_rings_close(&s->rings);
    if (s->quit >= 0)
        close(s->quit);
    kn_fold_free(s->fold);
    kn_symbols_free(s->kernel);
    kn_processes_free(s->processes);
    free(s->fds);
    free(s);
}

/* Samples of the CPU clock are time. For samples of cycles the busy time is that of /proc/stat. */
static void put_busy(const struct kn_stacks *s, json_t *out)
{
    uint64_t from = s->begun.node_busy_ns, to = s->ended.node_busy_ns;
    if (!s->rings.cycles)
        kn_json_set(out, "busy_s", json_real((double)(s->samples - s->idle) / s->options.hz));
    else if (s->ended_ns && from != KN_ABSENT && to != KN_ABSENT && to > from)
        kn_json_set(out, "busy_s", json_real((double)(to - from) / 1e9));
}

static const char *name_of(void *in, uint64_t offset)
{
    return kn_mapping_name(in, offset);
}

/* Reads the symbols of programs, which takes time, after the measurement. */
static int name_all(struct kn_stacks *s)
{
    struct kn_error err;
    struct kn_fold *named = kn_fold_named(s->fold, name_of, &err);
    if (!named)
        return -1;
    kn_fold_free(s->fold);
    s->fold = named;
    return 0;
}

json_t *kn_stacks_stop(struct kn_stacks *s)
{
    halt(s);
    double duration_s = s->begun_ns ? (double)(s->ended_ns - s->begun_ns) / 1e9 : 0;
    /* count samples of cycles in units of their mean */
    double scale = s->weight > 0 ? (double)s->samples / s->weight : 1;
    json_t *out = json_pack("{s:s, s:i, s:i, s:f, s:I, s:I, s:I}", "event", s->rings.cycles ? "cycles" : "cpu-clock",
                            "hz", (int)s->options.hz, "cpus", (int)s->rings.n, "duration_s", duration_s, "samples",
                            (json_int_t)s->samples, "idle", (json_int_t)s->idle, "lost", (json_int_t)s->rings.lost);
    if (!out)
        return NULL;
    put_busy(s, out);
    if (s->missing[0])
        kn_json_set(out, "missing", json_pack("[s]", s->missing));
    if (name_all(s) == 0 && kn_fold_json(s->fold, scale, KN_FOLD_KEEP, out) == 0)
        return out;
    json_decref(out);
    return NULL;
}
