/* A lab leaves no trace: none on the machine's network while it runs, and none at all after SIGKILL at any moment. */
#include "inside.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>

/* ---- what the machine's network is made of, as one text ---- */

struct text {
    char *data;
    size_t used, size;
};

static void append(struct text *t, const char *data, size_t n)
{
    if (t->used + n + 1 > t->size) {
        t->size = (t->used + n + 1) * 2;
        t->data = realloc(t->data, t->size);
        assert_non_null(t->data);
    }
    memcpy(t->data + t->used, data, n);
    t->used += n;
    t->data[t->used] = '\0';
}

static void append_file(struct text *t, const char *path)
{
    char buf[65536];
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    append(t, path, strlen(path));
    append(t, "\n", 1);
    for (ssize_t n; fd >= 0 && (n = read(fd, buf, sizeof buf)) > 0;)
        append(t, buf, (size_t)n);
    if (fd >= 0)
        close(fd);
}

/* A dump of rtnetlink, of links without their counters. */
static void append_dump(struct text *t, int type, int family)
{
    struct {
        struct nlmsghdr head;
        struct rtgenmsg body;
    } request = {{.nlmsg_len = sizeof request, .nlmsg_type = (uint16_t)type, .nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP},
                 {.rtgen_family = (unsigned char)family}};
    char buf[65536];
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    bool more = send(fd, &request, sizeof request, 0) > 0;
    while (more) {
        ssize_t size = recv(fd, buf, sizeof buf, 0);
        for (struct nlmsghdr *h = (struct nlmsghdr *)(void *)buf; size > 0 && NLMSG_OK(h, (size_t)size) && more;
             h = NLMSG_NEXT(h, size)) {
            if (h->nlmsg_type == NLMSG_DONE || h->nlmsg_type == NLMSG_ERROR)
                more = false;
            else if (type == RTM_GETLINK)
                append(t, NLMSG_DATA(h), sizeof(struct ifinfomsg));
            else if (type == RTM_GETADDR)
                append(t, NLMSG_DATA(h), sizeof(struct ifaddrmsg));
            else
                append(t, NLMSG_DATA(h), sizeof(struct rtmsg));
        }
        more = more && size > 0;
    }
    close(fd);
}

static struct text *walked;

static int walk(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    (void)st;
    (void)ftw;
    static const char *const moving[] = {"nf_conntrack_count", "dev_weight", "route/flush", "max_dgram_qlen", NULL};
    for (int i = 0; moving[i]; i++)
        if (strstr(path, moving[i]))
            return 0;
    if (flag == FTW_F)
        append_file(walked, path);
    return 0;
}

static char *portrait(void)
{
    struct text t = {.data = NULL};
    static const int dumps[] = {RTM_GETLINK, RTM_GETADDR, RTM_GETRULE, RTM_GETROUTE};
    for (int i = 0; i < 4; i++) {
        append_dump(&t, dumps[i], AF_INET);
        append_dump(&t, dumps[i], AF_INET6);
    }
    static const char *const files[] = {"/proc/net/if_inet6", "/proc/net/fib_trie", "/proc/self/mountinfo",
                                        "/proc/mounts"};
    for (int i = 0; i < 4; i++)
        append_file(&t, files[i]);
    walked = &t;
    nftw("/proc/sys/net", walk, 16, FTW_PHYS);
    nftw("/run/netns", walk, 16, FTW_PHYS);
    append(&t, access("/run/knbl", F_OK) == 0 ? "knbl" : "-", 1);
    append(&t, "", 1);
    for (size_t i = 0; i + 1 < t.used; i++) /* the dumps hold zeros */
        if (!t.data[i])
            t.data[i] = '.';
    return t.data;
}

/* NULL, or the difference. */
static const char *differs(const char *before, const char *now)
{
    static char text[800];
    size_t i = 0;
    while (before[i] && before[i] == now[i])
        i++;
    if (before[i] == now[i])
        return NULL;
    size_t from = i > 200 ? i - 200 : 0;
    snprintf(text, sizeof text, "was\n%.300s\nis\n%.300s", before + from, now + from);
    return text;
}

static const char *lab_between_portraits(void)
{
    char *before = portrait();
    struct kn_lab *lab = open_lab("{\"overlay\":\"vxlan\",\"services\":10}");
    tell(lab, "{\"op\":\"node\"}");
    tell(lab, "{\"op\":\"node\"}");
    server(lab, "a", "node-1", ",\"bandwidth\":\"1G\"");
    server(lab, "b", "node-2", "");
    tell(lab, "{\"op\":\"service\",\"endpoints\":[\"b\"],\"type\":\"NodePort\"}");
    answers(lab, "a", "tcp", "10.96.0.10", 9000, "b 10.244.0.2");
    char *during = portrait();
    kn_lab_close(lab);
    char *after = portrait();
    const char *change = differs(before, during);
    if (!change)
        change = differs(before, after);
    free(before);
    free(during);
    free(after);
    return change;
}

/* The first lab may make the kernel load modules, which add sysctls, and other programs may change something too. A
 * change by the lab itself would show every time. */
static void test_untouched(void **state)
{
    const char *change = "";
    (void)state;
    for (int i = 0; i < 10 && change; i++)
        change = lab_between_portraits();
    if (change)
        fail_msg("the machine has changed: %s", change);
}

/* ---- SIGKILL at any moment ---- */

#define MARK "KNBL_TEST_MARK"
enum { NO_GUESTS = 77 };

/* The same with a guest, which runs in another program: qemu. */
static int guest_victim(void)
{
    static const char node[] = "{\"op\":\"node\"}", guest[] = "{\"op\":\"pod\",\"name\":\"k\",\"runtime\":\"kata\"}";
    struct kn_error err = {.code = KN_OK};
    for (;;) {
        struct kn_lab *lab = kn_lab_open(NULL, &err);
        if (!lab)
            return 1;
        for (int i = 0; i < 2; i++) {
            json_t *request = json_loads(i == 0 ? node : guest, 0, NULL), *answer = kn_lab_request(lab, request, &err);
            json_decref(request);
            if (!answer)
                return err.code == KN_E_UNSUPPORTED ? NO_GUESTS : 1;
            json_decref(answer);
        }
        kn_lab_close(lab);
    }
}

/* Opens labs, one after the other, until killed. */
static int victim(void)
{
    struct kn_error err = {.code = KN_OK};
    for (;;) {
        struct kn_lab *lab = kn_lab_open(NULL, &err);
        static const char *const requests[] = {
            "{\"op\":\"node\"}",
            "{\"op\":\"node\"}",
            "{\"op\":\"pod\",\"name\":\"a\",\"node\":\"node-1\"}",
            "{\"op\":\"pod\",\"name\":\"b\",\"node\":\"node-2\"}",
            "{\"op\":\"pod\",\"runtime\":\"host\"}",
            "{\"op\":\"service\",\"endpoints\":[\"a\",\"b\"]}",
            "{\"op\":\"exec\",\"in\":\"a\",\"argv\":[\"/bin/sleep\",\"0.01\"],\"capture\":true}",
            "{\"op\":\"delete\",\"name\":\"service-1\"}",
        };
        if (!lab)
            return 1;
        for (size_t i = 0; i < sizeof requests / sizeof *requests; i++) {
            json_t *request = json_loads(requests[i], 0, NULL), *answer = kn_lab_request(lab, request, &err);
            if (!answer)
                return 1;
            json_decref(request);
            json_decref(answer);
        }
        kn_lab_close(lab);
    }
}

/* How many processes have the mark in their initial environment, which fork keeps. */
static unsigned marked(const char *mark)
{
    char path[300], environment[65536];
    unsigned n = 0;
    DIR *proc = opendir("/proc");
    for (struct dirent *e; (e = readdir(proc));) {
        if (e->d_name[0] < '0' || e->d_name[0] > '9' || atoi(e->d_name) == getpid())
            continue;
        snprintf(path, sizeof path, "/proc/%s/environ", e->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t size = fd < 0 ? 0 : read(fd, environment, sizeof environment);
        if (fd >= 0)
            close(fd);
        if (size > 0 && memmem(environment, (size_t)size, mark, strlen(mark)))
            n++;
    }
    closedir(proc);
    return n;
}

static void pause_ns(uint64_t ns)
{
    kn_sleep_until_ns(kn_now_ns() + ns);
}

static pid_t start_victim(const char *mark, const char *which)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        char *argv[] = {(char *)(uintptr_t)self(), (char *)(uintptr_t)which, NULL};
        char *envp[] = {(char *)(uintptr_t)mark, NULL};
        execve(self(), argv, envp);
        _exit(127);
    }
    return pid;
}

static void kill_it(pid_t pid, const char *mark, const char *when)
{
    assert_int_equal(waitpid(pid, NULL, WNOHANG), 0); /* it still runs */
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
    uint64_t end = kn_now_ns() + 10 * KN_NS_PER_S;
    unsigned left;
    while ((left = marked(mark)) > 0 && kn_now_ns() < end)
        pause_ns(KN_NS_PER_MS);
    if (left)
        fail_msg("%u processes are left of a lab that was killed %s", left, when);
}

/* The mark finds agents; otherwise the test below would find none either. */
static void test_marks(void **state)
{
    char mark[64];
    (void)state;
    snprintf(mark, sizeof mark, MARK "=%d", (int)getpid());
    pid_t pid = start_victim(mark, "victim");
    uint64_t end = kn_now_ns() + 20 * KN_NS_PER_S;
    unsigned most = 0;
    while (most < 5 && kn_now_ns() < end) {
        unsigned n = marked(mark);
        if (n > most)
            most = n;
    }
    kill_it(pid, mark, "with its pods");
    assert_true(most >= 5);
}

static void test_killed(void **state)
{
    (void)state;
    struct random random = {.state = (uint64_t)time(NULL)};
    char mark[64], when[64];
    print_message("# seed %llu\n", (unsigned long long)random.state);
    for (int i = 0; i < 100; i++) {
        snprintf(mark, sizeof mark, MARK "=%d.%d", (int)getpid(), i);
        uint64_t ns = random_next(&random) % (80 * KN_NS_PER_MS);
        snprintf(when, sizeof when, "after %.3f ms", (double)ns / 1e6);
        pid_t pid = start_victim(mark, "victim");
        pause_ns(ns);
        kill_it(pid, mark, when);
    }
    static const char *const links[] = {"fabric", "pods", "overlay", "node1", "pod1"};
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        assert_int_equal(if_nametoindex(links[i]), 0);
    struct text mounts = {.data = NULL};
    append_file(&mounts, "/proc/mounts");
    assert_null(strstr(mounts.data, "\nknbl /run "));
    assert_int_not_equal(access("/run/knbl", F_OK), 0);
    free(mounts.data);
}

/* The number of processes named qemu with the victim's mark. */
static bool monitor_runs(const char *mark)
{
    char path[300], text[65536];
    bool found = false;
    DIR *proc = opendir("/proc");
    for (struct dirent *e; (e = readdir(proc)) && !found;) {
        if (e->d_name[0] < '0' || e->d_name[0] > '9')
            continue;
        snprintf(path, sizeof path, "/proc/%s/comm", e->d_name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? 0 : read(fd, text, 5);
        if (fd >= 0)
            close(fd);
        if (n < 4 || memcmp(text, "qemu", 4) != 0)
            continue;
        snprintf(path, sizeof path, "/proc/%s/environ", e->d_name);
        fd = open(path, O_RDONLY | O_CLOEXEC);
        n = fd < 0 ? 0 : read(fd, text, sizeof text);
        if (fd >= 0)
            close(fd);
        found = n > 0 && memmem(text, (size_t)n, mark, strlen(mark));
    }
    closedir(proc);
    return found;
}

/* While qemu starts, while its guest boots, and when that is ready. */
static void test_killed_with_guest(void **state)
{
    (void)state;
    char mark[64], when[64];
    for (unsigned i = 0; i < 3; i++) {
        int status = 0;
        snprintf(mark, sizeof mark, MARK "=%d.guest.%u", (int)getpid(), i);
        pid_t pid = start_victim(mark, "with-guest");
        uint64_t end = kn_now_ns() + 60 * KN_NS_PER_S;
        while (!monitor_runs(mark) && kn_now_ns() < end && waitpid(pid, &status, WNOHANG) == 0)
            pause_ns(KN_NS_PER_MS);
        if (WIFEXITED(status) && WEXITSTATUS(status) == NO_GUESTS)
            skip();
        assert_true(monitor_runs(mark));
        pause_ns(i * 700 * KN_NS_PER_MS);
        snprintf(when, sizeof when, "%u ms after its guest began", i * 700);
        kill_it(pid, mark, when);
    }
    assert_int_equal(if_nametoindex("tap0"), 0);
}

/* Lines with the cgroups knbl-lab-NAMESPACE-PID whose warden has ended: those that were there before, in a cgroup where
 * no other lab has started since, and those that are new. */
static struct text old_orphans, new_orphans, *orphans;

static int append_orphan(const char *path, const struct stat *st, int flag, struct FTW *ftw)
{
    char line[PATH_MAX];
    unsigned long space;
    int pid;
    struct stat own;
    (void)st;
    stat("/proc/self/ns/pid", &own);
    snprintf(line, sizeof line, "\n%s\n", path);
    if (flag == FTW_D && sscanf(path + ftw->base, "knbl-lab-%lu-%d", &space, &pid) == 2 && space == own.st_ino &&
        kill(pid, 0) && errno == ESRCH && !(old_orphans.data && strstr(old_orphans.data, line)))
        append(orphans, line, strlen(line));
    return 0;
}

static int remember_orphans(void **state)
{
    (void)state;
    orphans = &old_orphans;
    return nftw("/sys/fs/cgroup", append_orphan, 16, FTW_PHYS);
}

static int forget_orphans(void **state)
{
    (void)state;
    free(old_orphans.data);
    free(new_orphans.data);
    return 0;
}

/* The cgroups of a killed lab are removed soon after its warden. */
static void test_cgroups(void **state)
{
    (void)state;
    uint64_t end = kn_now_ns() + 20 * KN_NS_PER_S;
    orphans = &new_orphans;
    do {
        new_orphans.used = 0;
        nftw("/sys/fs/cgroup", append_orphan, 16, FTW_PHYS);
        if (new_orphans.used)
            pause_ns(100 * KN_NS_PER_MS);
    } while (new_orphans.used && kn_now_ns() < end);
    if (new_orphans.used)
        fail_msg("these are left: %s", new_orphans.data);
}

int main(int argc, char **argv)
{
    inside_main(argc, argv);
    if (argc == 2 && strcmp(argv[1], "victim") == 0)
        return victim();
    if (argc == 2 && strcmp(argv[1], "with-guest") == 0)
        return guest_victim();
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_untouched), cmocka_unit_test(test_marks),
                                       cmocka_unit_test(test_killed), cmocka_unit_test(test_killed_with_guest),
                                       cmocka_unit_test(test_cgroups)};
    return cmocka_run_group_tests(tests, remember_orphans, forget_orphans);
}
