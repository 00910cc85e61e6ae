#include "meter/rings.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "meter/files.h"

#define RING_PAGES 32u /* a power of two, after a header page; 128 KiB hold about 200 deep stacks */
#define CPUS_MAX 4096u

static int perf_open(struct perf_event_attr *attr, int cpu)
{
    return (int)syscall(SYS_perf_event_open, attr, -1, cpu, -1, PERF_FLAG_FD_CLOEXEC);
}

static struct perf_event_attr attributes(bool cycles, unsigned hz)
{
    return (struct perf_event_attr){
        .type = cycles ? PERF_TYPE_HARDWARE : PERF_TYPE_SOFTWARE,
        .config = cycles ? (uint64_t)PERF_COUNT_HW_CPU_CYCLES : (uint64_t)PERF_COUNT_SW_CPU_CLOCK,
        .size = sizeof(struct perf_event_attr),
        .freq = 1,
        .sample_freq = hz,
        .disabled = 1,
        .watermark = 1,
        .wakeup_watermark = RING_PAGES / 2 * 4096,
        .sample_type = PERF_SAMPLE_IP | PERF_SAMPLE_TID | PERF_SAMPLE_PERIOD | PERF_SAMPLE_CALLCHAIN,
    };
}

/* A container's seccomp filter returns EPERM, the kernel EACCES. */
static int forbidden(int sys_errno, struct kn_error *err)
{
    char status[4096], level[16] = "?";
    if (kn_file_read("", "/proc/sys/kernel/perf_event_paranoid", level, sizeof level) > 0)
        level[strcspn(level, "\n")] = 0;
    bool filtered = kn_file_read("", "/proc/self/status", status, sizeof status) > 0 && strstr(status, "\nSeccomp:\t2");
    if (sys_errno == EPERM && filtered)
        return kn_fail_with(err, KN_E_PERMISSION, sys_errno,
                            "profiles are not permitted: this container's seccomp filter forbids perf_event_open; "
                            "give it CAP_PERFMON (Kubernetes: capabilities, add: [PERFMON, SYSLOG, SYS_PTRACE])");
    return kn_fail_with(
        err, KN_E_PERMISSION, sys_errno,
        "profiles are not permitted: kernel.perf_event_paranoid is %s; run knbl and its agents as root, "
        "give them CAP_PERFMON, or run sudo sysctl kernel.perf_event_paranoid=-1",
        level);
}

static int refused(int sys_errno, struct kn_error *err)
{
    if (sys_errno == EACCES || sys_errno == EPERM)
        return forbidden(sys_errno, err);
    if (sys_errno == EMFILE || sys_errno == ENFILE || sys_errno == ENOMEM)
        return kn_fail_from(err, sys_errno, "cannot open perf events");
    return kn_fail_with(err, KN_E_UNSUPPORTED, sys_errno,
                        "profiles are not supported by this kernel: perf_event_open: %s", strerror(sys_errno));
}

/* The cycle counter if there is one: it samples code that runs with interrupts off too. */
static int open_first(bool *cycles, unsigned hz, struct kn_error *err)
{
    for (int try = 1; try >= 0; try--) {
        struct perf_event_attr attr = attributes(try, hz);
        int fd = perf_open(&attr, 0);
        *cycles = try;
        if (fd >= 0)
            return fd;
    }
    return refused(errno, err);
}

int kn_rings_probe(unsigned hz, struct kn_error *err)
{
    bool cycles;
    int fd = open_first(&cycles, hz, err);
    return fd < 0 ? -1 : close(fd);
}

static size_t ring_size(void)
{
    return (RING_PAGES + 1) * (size_t)sysconf(_SC_PAGESIZE);
}

static int open_ring(struct kn_rings *r, unsigned hz, int cpu, struct kn_error *err)
{
    struct perf_event_attr attr = attributes(r->cycles, hz);
    int fd = perf_open(&attr, cpu);
    if (fd < 0 && errno == ENODEV)
        return 0; /* this CPU is offline */
    if (fd < 0)
        return refused(errno, err);
    void *page = mmap(NULL, ring_size(), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) {
        int saved = errno;
        close(fd);
        return kn_fail_from(err, saved, "cannot lock memory for profiles (see ulimit -l)");
    }
    r->list[r->n++] = (struct kn_ring){.fd = fd, .page = page};
    return 0;
}

int kn_rings_open(struct kn_rings *r, unsigned hz, struct kn_error *err)
{
    long n = sysconf(_SC_NPROCESSORS_CONF);
    int first = open_first(&r->cycles, hz, err);
    if (first < 0)
        return -1;
    close(first);
    if (n < 1)
        n = 1;
    if (n > (long)CPUS_MAX)
        n = CPUS_MAX;
    if (!(r->list = calloc((size_t)n, sizeof *r->list)))
        return kn_fail_memory(err);
    for (int cpu = 0; cpu < n; cpu++)
        if (open_ring(r, hz, cpu, err))
            return -1;
    return r->n ? 0 : kn_fail(err, KN_E_UNSUPPORTED, "profiles found no CPU that is online");
}

void kn_rings_close(struct kn_rings *r)
{
    for (unsigned i = 0; i < r->n; i++) {
        munmap(r->list[i].page, ring_size());
        close(r->list[i].fd);
    }
    free(r->list);
}

void kn_rings_switch(struct kn_rings *r, bool on)
{
    for (unsigned i = 0; i < r->n; i++)
        ioctl(r->list[i].fd, on ? PERF_EVENT_IOC_ENABLE : PERF_EVENT_IOC_DISABLE, 0);
}

/* ---- what is in them ---- */

struct reader {
    struct kn_rings *rings;
    void (*take)(void *context, const struct kn_sample *sample);
    void *context;
};

/* IP, TID, PERIOD, CALLCHAIN: in the kernel's order. */
static void read_sample(const struct reader *r, const uint64_t *body, size_t words)
{
    uint32_t ids[2];
    if (words < 4 || body[3] > words - 4)
        return;
    memcpy(ids, &body[1], sizeof ids);
    struct kn_sample sample = {.pid = (pid_t)ids[0],
                               .weight = r->rings->cycles ? (double)body[2] : 1,
                               .chain = body + 4,
                               .n = (size_t)body[3]};
    r->take(r->context, &sample);
}

static void read_record(const struct reader *r, const struct perf_event_header *header, const uint64_t *body)
{
    size_t words = (header->size - sizeof *header) / 8;
    if (header->type == PERF_RECORD_SAMPLE)
        read_sample(r, body, words);
    if (header->type == PERF_RECORD_LOST && words >= 2)
        r->rings->lost += body[1];
}

static void copy_out(const struct kn_ring *ring, uint64_t at, void *into, size_t size)
{
    size_t room = RING_PAGES * (size_t)sysconf(_SC_PAGESIZE), from = at & (room - 1);
    const char *data = (const char *)ring->page + sysconf(_SC_PAGESIZE);
    size_t first = size < room - from ? size : room - from;
    memcpy(into, data + from, first);
    memcpy((char *)into + first, data, size - first);
}

static void drain(const struct reader *r, struct kn_ring *ring)
{
    uint64_t head = __atomic_load_n(&ring->page->data_head, __ATOMIC_ACQUIRE), tail = ring->page->data_tail;
    while (tail < head) {
        struct perf_event_header header;
        copy_out(ring, tail, &header, sizeof header);
        if (header.size < sizeof header || header.size > head - tail) { /* not possible */
            tail = head;
            break;
        }
        copy_out(ring, tail + sizeof header, r->rings->record, header.size - sizeof header);
        read_record(r, &header, r->rings->record);
        tail += header.size;
    }
    __atomic_store_n(&ring->page->data_tail, tail, __ATOMIC_RELEASE);
}

void kn_rings_drain(struct kn_rings *rings, void (*take)(void *context, const struct kn_sample *sample), void *context)
{
    const struct reader r = {rings, take, context};
    for (unsigned i = 0; i < rings->n; i++)
        drain(&r, &rings->list[i]);
}
