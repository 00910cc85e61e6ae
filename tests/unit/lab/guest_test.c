/* Pods in guests: a kernel of its own whose agent has the pod's address; and the errors. */
#include "inside.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "lab/cpio.h"
#include "lab/vm.h"

/* ---- what needs no guest ---- */

static const char dep[] = "kernel/a/virtio_net.ko: kernel/a/net_failover.ko kernel/b/failover.ko kernel/b/virtio.ko\n"
                          "kernel/a/xvirtio_pci.ko: kernel/wrong.ko\n"
                          "kernel/a/virtio_pci.ko.xz: kernel/b/virtio.ko\n"
                          "kernel/b/virtio.ko:\n";

static void test_modules_in_order(void **state)
{
    (void)state;
    struct kn_error err;
    struct kn_vm_modules *m = calloc(1, sizeof *m);
    static const char *const order[] = {"kernel/b/virtio.ko", "kernel/a/virtio_pci.ko.xz", "kernel/b/failover.ko",
                                        "kernel/a/net_failover.ko", "kernel/a/virtio_net.ko"};
    assert_int_equal(kn_vm_modules_from(dep, m, &err), 0);
    assert_int_equal(m->n, 5);
    for (size_t i = 0; i < m->n; i++)
        assert_string_equal(m->path[i], order[i]);
    assert_int_equal(kn_vm_modules_from("", m, &err), 0); /* all built in */
    assert_int_equal(m->n, 0);
    assert_int_equal(kn_vm_modules_from("nonsense\n:\nvirtio_net.ko", m, &err), 0);
    assert_int_equal(m->n, 0);
    free(m);
}

static void test_archive(void **state)
{
    (void)state;
    struct kn_error err;
    char text[1024], expected[] = "070701"
                                  "00000002"
                                  "00008180"
                                  "00000000"
                                  "00000000"
                                  "00000001"
                                  "00000000"
                                  "00000005";
    struct kn_cpio cpio = {.fd = memfd_create("archive", MFD_CLOEXEC)};
    assert_int_equal(kn_cpio_folder(&cpio, "dev", &err), 0);
    assert_int_equal(kn_cpio_bytes(&cpio, "a", 0600, "hello", 5, &err), 0);
    assert_int_equal(kn_cpio_end(&cpio, &err), 0);
    ssize_t n = pread(cpio.fd, text, sizeof text, 0);
    assert_int_equal(n, cpio.at);
    assert_int_equal(n % 4, 0);
    assert_memory_equal(text + 116, expected, sizeof expected - 1); /* after 110 + "dev" + zero, to a multiple of 4 */
    assert_string_equal(text + 116 + 110, "a");
    assert_memory_equal(text + 116 + 112,
                        "hello\0\0\0"
                        "070701",
                        14);
    close(cpio.fd);
    cpio.fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
    assert_int_equal(kn_cpio_folder(&cpio, "dev", &err), -1);
    check_refusal(&err, KN_E_SYSTEM, "cannot write the initramfs");
    close(cpio.fd);
}

static void test_module_without_signature(void **state)
{
    (void)state;
    static const char signed_module[] = "code"
                                        "SIG"
                                        "\0\0\2\0\0\0\0\0\0\0\0\3"
                                        "~Module signature appended~\n";
    struct kn_error err;
    char path[64], text[512];
    int module = memfd_create("module", MFD_CLOEXEC);
    struct kn_cpio cpio = {.fd = memfd_create("archive", MFD_CLOEXEC)};
    assert_int_equal(write(module, signed_module, sizeof signed_module - 1), sizeof signed_module - 1);
    snprintf(path, sizeof path, "/proc/self/fd/%d", module);
    assert_int_equal(kn_cpio_module(&cpio, "m", path, &err), 0);
    assert_int_equal(pread(cpio.fd, text, sizeof text, 0), 116);
    assert_memory_equal(text + 54, "00000004", 8);
    assert_memory_equal(text + 112, "code", 4);
    close(module);
    close(cpio.fd);
}

/* ---- guests ---- */

/* The control socket leads to the guest's agent, which refuses HTTP without a token. */
static void agent_answers(json_t *pod)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char text[512] = "";
    snprintf(at.sun_path, sizeof at.sun_path, "%s", json_string_value(json_object_get(pod, "control")));
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct timeval patience = {.tv_sec = 20};
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_true(dprintf(fd, "GET /v1/agent HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n") > 0);
    size_t n = 0;
    for (ssize_t got; n < sizeof text - 1 && (got = recv(fd, text + n, sizeof text - 1 - n, 0)) > 0;)
        n += (size_t)got;
    close(fd);
    if (!strstr(text, " 401 ") || !strstr(text, "\"auth\""))
        fail_msg("the agent says \"%s\"", text);
}

/* Whether the agent at that address accepts a connection from `where`. */
static bool reached(struct kn_lab *lab, const char *where, const char *host)
{
    char words[128];
    snprintf(words, sizeof words, "\"ask\",\"tmss\",\"%s\",\"7099\"", host);
    char *text = run_in(lab, where, words);
    bool ok = atoi(text) > 0;
    free(text);
    return ok;
}

static json_t *about_kata(struct kn_lab *lab)
{
    json_t *answer = ask(lab, "{\"op\":\"runtimes\"}"), *list = json_object_get(answer, "runtimes"), *found = NULL;
    json_t *one;
    size_t i;
    json_array_foreach(list, i, one) if (strcmp(json_string_value(json_object_get(one, "name")), "kata") == 0)
        found = json_incref(one);
    json_decref(answer);
    assert_non_null(found);
    return found;
}

/* A lab with two nodes; NULL if guests do not work here, with the reason printed. */
static struct kn_lab *with_guests(void)
{
    struct kn_lab *lab = open_lab("{}");
    json_t *about = about_kata(lab);
    bool ok = json_is_true(json_object_get(about, "ok"));
    if (!ok)
        print_message("# skipped: %s\n", json_string_value(json_object_get(about, "reason")));
    json_decref(about);
    if (!ok) {
        kn_lab_close(lab);
        return NULL;
    }
    tell(lab, "{\"op\":\"node\"}");
    tell(lab, "{\"op\":\"node\"}");
    return lab;
}

static void test_guest(void **state)
{
    (void)state;
    struct kn_lab *lab = with_guests();
    if (!lab)
        skip();
    json_t *pod = ask(lab, "{\"op\":\"pod\",\"name\":\"guest\",\"node\":\"node-1\",\"runtime\":\"kata\"}");
    assert_true(json_is_true(json_object_get(pod, "alive")));
    assert_non_null(json_string_value(json_object_get(json_object_get(pod, "sandbox"), "platform")));
    assert_true(json_array_size(json_object_get(pod, "host_pids")) >= 2);
    agent_answers(pod);
    tell(lab, "{\"op\":\"service\",\"name\":\"svc\",\"endpoints\":[\"guest\"]}");
    static const char *const from_where[] = {"node-1", "node-2"};
    for (int i = 0; i < 2; i++) {
        assert_true(reached(lab, from_where[i], "10.244.0.2"));
        assert_true(reached(lab, from_where[i], "fd00:10:244:1::2"));
        assert_true(reached(lab, from_where[i], "10.96.0.10"));
        assert_true(reached(lab, from_where[i], "fd00:10:96::a"));
    }
    json_t *usage = ask(lab, "{\"op\":\"usage\",\"name\":\"guest\"}");
    assert_true(json_integer_value(json_object_get(usage, "cpu_ns")) > 0);
    assert_true(json_integer_value(json_object_get(usage, "memory_bytes")) > 1 << 20);
    json_decref(usage);
    refuses(lab, KN_E_UNSUPPORTED, "a guest runs only the agent",
            "{\"op\":\"exec\",\"in\":\"guest\",\"argv\":[\"/bin/true\"]}");
    tell(lab, "{\"op\":\"delete\",\"name\":\"svc\"}");
    tell(lab, "{\"op\":\"delete\",\"name\":\"guest\"}");
    json_decref(pod);
    /* joined by a bridge, with the other machine and less memory */
    pod = ask(lab, "{\"op\":\"pod\",\"name\":\"other\",\"node\":\"node-1\",\"runtime\":\"kata\",\"memory\":\"256M\","
                   "\"mtu\":1300,\"vm\":{\"machine\":\"q35\",\"join\":\"bridge\",\"offloads\":false}}");
    const char *platform = json_string_value(json_object_get(json_object_get(pod, "sandbox"), "platform"));
    assert_non_null(strstr(platform, "q35"));
    assert_non_null(strstr(platform, "256 MiB"));
    agent_answers(pod);
    assert_true(reached(lab, "node-2", "10.244.0.2"));
    assert_true(reached(lab, "node-2", "fd00:10:244:1::2"));
    json_decref(pod);
    kn_lab_close(lab);
}

static json_t *pod_of(struct kn_lab *lab)
{
    json_t *status = ask(lab, "{\"op\":\"status\"}"), *pods = json_object_get(status, "pods");
    json_t *pod = json_incref(json_array_get(pods, 0));
    json_decref(status);
    return pod;
}

/* Kills qemu, as the kernel would without memory. */
static void test_guest_that_is_killed(void **state)
{
    (void)state;
    struct kn_lab *lab = with_guests();
    if (!lab)
        skip();
    tell(lab, "{\"op\":\"pod\",\"name\":\"guest\",\"runtime\":\"kata\"}");
    json_decref(ask(lab, "{\"op\":\"exec\",\"capture\":true,\"argv\":[\"/bin/sh\",\"-c\",\"for p in /proc/[0-9]*; do "
                         "grep -q ^qemu-system $p/cmdline && kill -9 ${p#/proc/}; done\"]}"));
    uint64_t end = kn_now_ns() + 30 * KN_NS_PER_S;
    json_t *pod;
    while ((pod = pod_of(lab)) && json_is_true(json_object_get(pod, "alive")) && kn_now_ns() < end) {
        json_decref(pod);
        kn_sleep_until_ns(kn_now_ns() + KN_NS_PER_MS);
    }
    assert_true(json_is_false(json_object_get(pod, "alive")));
    json_decref(pod);
    kn_lab_close(lab);
}

/* ---- no guest, and why ---- */

/* A kernel without init panics with a message; another pod can have the name afterwards. */
static void test_no_init(void **state)
{
    (void)state;
    struct kn_lab *lab = with_guests();
    if (!lab)
        skip();
    refuses(lab, KN_E_LOST, "Kernel panic",
            "{\"op\":\"pod\",\"name\":\"p\",\"runtime\":\"kata\",\"vm\":{\"initramfs\":\"/etc/passwd\"}}");
    tell(lab, "{\"op\":\"pod\",\"name\":\"p\",\"runtime\":\"runc\"}");
    kn_lab_close(lab);
}

static void test_refusals(void **state)
{
    (void)state;
    struct kn_lab *lab = with_guests();
    if (!lab)
        skip();
    static const struct {
        enum kn_code code;
        const char *says, *more;
    } cases[] = {
        {KN_E_LOST, "ended before it was ready", "\"vm\":{\"kernel\":\"/etc/passwd\"}"},
        {KN_E_SYSTEM, "/nowhere", "\"vm\":{\"kernel\":\"/nowhere\"}"},
        {KN_E_SYSTEM, "/nowhere", "\"vm\":{\"initramfs\":\"/nowhere\"}"},
        {KN_E_TIMEOUT, "does not answer at port 7099 after 0.01 s", "\"vm\":{\"boot_timeout\":\"10ms\"}"},
        {KN_E_LOST, "memory", "\"memory\":\"900000G\""},
        {KN_E_ARGUMENT, "did you mean 'q35'", "\"vm\":{\"machine\":\"q36\"}"},
        {KN_E_ARGUMENT, "did you mean 'join'", "\"vm\":{\"joint\":\"tc\"}"},
        {KN_E_ARGUMENT, "join must be tc or bridge, got 'glue'", "\"vm\":{\"join\":\"glue\"}"},
        {KN_E_ARGUMENT, "vcpus must be a whole number from 1 to 64, got 0", "\"vm\":{\"vcpus\":0}"},
        {KN_E_UNSUPPORTED, "command does not apply to a kata pod", "\"command\":[\"/bin/true\"]"},
        {KN_E_UNSUPPORTED, "hardened does not apply to a kata pod", "\"hardened\":true"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        refuses(lab, cases[i].code, cases[i].says, "{\"op\":\"pod\",\"name\":\"p\",\"runtime\":\"kata\",%s}",
                cases[i].more);
    refuses(lab, KN_E_ARGUMENT, "vm does not apply to runtime runc", "{\"op\":\"pod\",\"runtime\":\"runc\",\"vm\":{}}");
    kn_lab_close(lab);
}

/* With only this script in the PATH, as qemu; NULL: nothing. */
static void with_program(const char *script, enum kn_code code, const char *says)
{
    struct stand_in monitor;
    stand_in_for(&monitor, "qemu-system-x86_64", script, true);
    struct kn_lab *lab = open_lab("{}");
    tell(lab, "{\"op\":\"node\"}");
    refuses(lab, code, says, "{\"op\":\"pod\",\"name\":\"p\",\"runtime\":\"kata\",\"vm\":{\"boot_timeout\":\"2s\"}}");
    tell(lab, "{\"op\":\"pod\",\"name\":\"p\",\"runtime\":\"runc\"}");
    kn_lab_close(lab);
    stand_down(&monitor);
}

static void test_monitors(void **state)
{
    (void)state;
    with_program(NULL, KN_E_UNSUPPORTED, "install the package qemu-system-x86");
    struct kn_lab *lab = with_guests();
    if (!lab)
        skip();
    kn_lab_close(lab);
    with_program("echo cannot set up guest memory >&2; exit 1", KN_E_LOST, "cannot set up guest memory");
    with_program("case \"$*\" in *--version*) exit;; *accel\\ kvm*) exit;; esac\n"
                 "echo 'it hangs in the bootloader'; while :; do read -r x </dev/zero; done",
                 KN_E_TIMEOUT, "does not answer at port 7099 after 2 s: it hangs in the bootloader");
}

int main(int argc, char **argv)
{
    inside_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_modules_in_order),
        cmocka_unit_test(test_archive),
        cmocka_unit_test(test_module_without_signature),
        cmocka_unit_test(test_guest),
        cmocka_unit_test(test_guest_that_is_killed),
        cmocka_unit_test(test_no_init),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_monitors),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
