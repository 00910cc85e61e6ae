/* Who may have a lab: ordinary users, those who may not make user namespaces, and a lab within a lab. */
#include "inside.h"

#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <linux/capability.h>

/* Runs `act` in a child, and shows its output. */
static int in_child(int (*act)(void))
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(act());
    int status = -1;
    waitpid(pid, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int become_ordinary(void)
{
    return geteuid() == 0 && (setgroups(0, NULL) || setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534));
}

static int small_lab(const char *says)
{
    struct kn_error err = {.code = KN_OK};
    struct kn_lab *lab = kn_lab_open(NULL, &err);
    if (!lab) {
        bool expected = says && strstr(err.message, says);
        if (!expected)
            fprintf(stderr, "%s\n", err.message);
        return expected ? 0 : 1;
    }
    static const char *const requests[] = {"{\"op\":\"node\"}", "{\"op\":\"pod\",\"name\":\"a\"}",
                                           "{\"op\":\"service\",\"endpoints\":[\"a\"]}"};
    int bad = says ? 1 : 0;
    for (int i = 0; i < 3 && !bad; i++) {
        json_t *request = json_loads(requests[i], 0, NULL), *answer = kn_lab_request(lab, request, &err);
        if (!answer)
            bad = fprintf(stderr, "%s: %s\n", requests[i], err.message);
        json_decref(request);
        json_decref(answer);
    }
    kn_lab_close(lab);
    return bad ? 1 : 0;
}

static int ordinary(void)
{
    return become_ordinary() || small_lab(NULL);
}

static int write_to(const char *path, const char *value)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : write(fd, value, strlen(value));
    if (fd >= 0)
        close(fd);
    return n < 0;
}

static int drop_capabilities(void)
{
    struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{.effective = 0}};
    return (int)syscall(SYS_capset, &head, none);
}

/* Without permission to make user namespaces: in one that the test makes, the limit can be set to 0. */
static int forbidden(void)
{
    char map[32];
    if (become_ordinary())
        return 2;
    prctl(PR_SET_DUMPABLE, 1, 0, 0, 0);
    snprintf(map, sizeof map, "0 %u 1", (unsigned)geteuid());
    if (unshare(CLONE_NEWUSER) || write_to("/proc/self/uid_map", map))
        return 3;
    if (write_to("/proc/sys/user/max_user_namespaces", "0") || drop_capabilities())
        return 4;
    return small_lab(
        "user.max_user_namespaces = 0): run sudo sysctl user.max_user_namespaces=15000, or run knbl with sudo");
}

/* The thread sanitizer has a thread of its own, and only single-threaded processes can make user namespaces. */
static void needs_one_thread(void)
{
#ifdef __SANITIZE_THREAD__
    skip();
#endif
}

static void test_users(void **state)
{
    (void)state;
    needs_one_thread();
    assert_int_equal(in_child(ordinary), 0);
    assert_int_equal(in_child(forbidden), 0);
}

/* Three levels deep. */
static int nested(int depth)
{
    if (depth == 0)
        return small_lab(NULL);
    struct kn_error err = {.code = KN_OK};
    struct kn_lab *lab = kn_lab_open(NULL, &err);
    if (!lab) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    json_t *request = json_pack("{s:s,s:[s,s,i]}", "op", "exec", "argv", self(), "nested", 0);
    char number_text[16];
    snprintf(number_text, sizeof number_text, "%d", depth - 1);
    json_array_set_new(json_object_get(request, "argv"), 2, json_string(number_text));
    json_t *answer = kn_lab_request(lab, request, &err);
    int status = answer ? (int)number(answer, "status") : 1;
    json_decref(answer);
    json_decref(request);
    kn_lab_close(lab);
    return status;
}

static int nested_as_root(void)
{
    return nested(2);
}
static int nested_as_ordinary(void)
{
    return become_ordinary() || nested(2);
}

static void test_lab_in_a_lab(void **state)
{
    (void)state;
    needs_one_thread();
    assert_int_equal(in_child(nested_as_root), 0);
    assert_int_equal(in_child(nested_as_ordinary), 0);
}

int main(int argc, char **argv)
{
    inside_main(argc, argv);
    if (argc == 3 && strcmp(argv[1], "nested") == 0)
        return nested(atoi(argv[2]));
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_users), cmocka_unit_test(test_lab_in_a_lab)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
