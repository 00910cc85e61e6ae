/* A lab: its errors, its answers, its pods, and how it ends. */
#include "inside.h"

#include <signal.h>
#include <sys/un.h>

static void test_options(void **state)
{
    static const struct {
        const char *options, *says;
    } bad[] = {
        {"{\"mtu\":20}", "mtu must be a whole number from 1280 to 65535, got 20"},
        {"{\"mtu\":600}", "mtu must be at least 1280 with IPv6, got 600; with families = 4 at least 576"},
        {"{\"mtu\":575,\"families\":4}", "from 576 to 65535"},
        {"{\"mtu\":1300,\"overlay\":\"vxlan\"}", "at least 1330"},
        {"{\"mtu\":1300,\"overlay\":\"vxlan\",\"families\":6}", "mtu must be"},
        {"{\"mtu\":65536}", "to 65535"},
        {"{\"mtu\":1500.5}", "whole number"},
        {"{\"mtu\":\"1500\"}", "mtu of the lab must be a number"},
        {"{\"overlay\":\"geneve\"}", "overlay must be none or vxlan, got 'geneve'"},
        {"{\"families\":5}", "families must be dual, 4 or 6, got 5"},
        {"{\"families\":\"ipv4\"}", "families must be dual, 4 or 6, got 'ipv4'"},
        {"{\"mode\":\"iptables\"}", "mode must be maps or chains"},
        {"{\"services\":-1}", "services must be a whole number"},
        {"{\"services\":1e6}", "services must be a whole number"},
        {"{\"token\":\"short\"}", "token must have 16 to 128 characters, got 5"},
        {"{\"overly\":\"none\"}", "did you mean 'overlay'?"},
        {"{\"port\":0}", "port must be a whole number from 1 to 65535, got 0"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct kn_error err = {.code = KN_OK};
        json_t *json = json_loads(bad[i].options, 0, NULL);
        struct kn_lab *lab = kn_lab_open(json, &err);
        assert_null(lab);
        check_refusal(&err, KN_E_ARGUMENT, bad[i].says);
        json_decref(json);
    }
}

static void test_refusals(void **state)
{
    (void)state;
    struct kn_lab *lab = open_lab("{\"mtu\":1400}");
    refuses(lab, KN_E_ARGUMENT, "a pod requires a node", "{\"op\":\"pod\"}");
    tell(lab, "{\"op\":\"node\"}");
    tell(lab, "{\"op\":\"node\",\"name\":\"edge\"}");
    tell(lab, "{\"op\":\"pod\",\"name\":\"web\"}");
    refuses(lab, KN_E_ARGUMENT, "did you mean 'node-1'?", "{\"op\":\"pod\",\"node\":\"nod-1\"}");
    refuses(lab, KN_E_ARGUMENT, "no node is named 'europe'", "{\"op\":\"pod\",\"node\":\"europe\"}");
    refuses(lab, KN_E_IN_USE, "the name 'web' is in use", "{\"op\":\"pod\",\"name\":\"web\"}");
    refuses(lab, KN_E_IN_USE, "the name 'edge' is in use", "{\"op\":\"pod\",\"name\":\"edge\"}");
    refuses(lab, KN_E_IN_USE, "the name 'web' is in use", "{\"op\":\"node\",\"name\":\"web\"}");
    refuses(lab, KN_E_ARGUMENT, "invalid name", "{\"op\":\"pod\",\"name\":\"../web\"}");
    refuses(lab, KN_E_ARGUMENT, "invalid name", "{\"op\":\"pod\",\"name\":\"\"}");
    refuses(lab, KN_E_ARGUMENT, "invalid name", "{\"op\":\"pod\",\"name\":\"-a\"}");
    refuses(lab, KN_E_ARGUMENT, "invalid name", "{\"op\":\"node\",\"name\":\"%064d\"}", 0);
    refuses(lab, KN_E_ARGUMENT, "name of a pod must be a string", "{\"op\":\"pod\",\"name\":7}");
    refuses(lab, KN_E_ARGUMENT, "did you mean 'bandwidth'?", "{\"op\":\"pod\",\"bandwith\":\"1G\"}");
    refuses(lab, KN_E_ARGUMENT, "mtu must be a whole number from 1280 to 65535, got 20", "{\"op\":\"pod\",\"mtu\":20}");
    refuses(lab, KN_E_ARGUMENT, "mtu of a pod must not exceed that of its node's bridge, 1400, got 1500",
            "{\"op\":\"pod\",\"mtu\":1500}");
    refuses(lab, KN_E_ARGUMENT, "mtu does not apply to runtime host",
            "{\"op\":\"pod\",\"mtu\":1300,\"runtime\":\"host\"}");
    refuses(lab, KN_E_ARGUMENT, "bandwidth must be from 8 kbit/s to 1 Tbit/s, like \"1G\", got 1 bit/s",
            "{\"op\":\"pod\",\"bandwidth\":1}");
    refuses(lab, KN_E_ARGUMENT, "fast", "{\"op\":\"pod\",\"bandwidth\":\"fast\"}");
    refuses(lab, KN_E_UNSUPPORTED, "did you mean 'runc'?", "{\"op\":\"pod\",\"runtime\":\"run\"}");
    refuses(lab, KN_E_ARGUMENT, "command must be a non-empty list of strings", "{\"op\":\"pod\",\"command\":[1]}");
    refuses(lab, KN_E_ARGUMENT, "endpoints is required for Service 's'",
            "{\"op\":\"service\",\"name\":\"s\",\"endpoints\":[]}");
    refuses(lab, KN_E_ARGUMENT, "endpoints is required for Service 's'", "{\"op\":\"service\",\"name\":\"s\"}");
    refuses(lab, KN_E_ARGUMENT, "did you mean 'web'?", "{\"op\":\"service\",\"endpoints\":[\"wib\"]}");
    refuses(lab, KN_E_ARGUMENT, "endpoint 'web' appears twice", "{\"op\":\"service\",\"endpoints\":[\"web\",\"web\"]}");
    refuses(lab, KN_E_ARGUMENT, "type must be ClusterIP or NodePort, got ",
            "{\"op\":\"service\",\"endpoints\":[\"web\"],\"type\":\"LoadBalancer\"}");
    refuses(lab, KN_E_ARGUMENT, "headless",
            "{\"op\":\"service\",\"endpoints\":[\"web\"],\"type\":\"NodePort\",\"headless\":true}");
    refuses(lab, KN_E_ARGUMENT, "port 80 appears twice",
            "{\"op\":\"service\",\"endpoints\":[\"web\"],\"ports\":[{\"port\":80},{\"port\":80}]}");
    refuses(lab, KN_E_ARGUMENT, "protocol must be both, tcp or udp, got ",
            "{\"op\":\"service\",\"endpoints\":[\"web\"],\"ports\":[{\"port\":80,\"protocol\":\"sctp\"}]}");
    refuses(lab, KN_E_ARGUMENT, "requires its number", "{\"op\":\"service\",\"endpoints\":[\"web\"],\"ports\":[{}]}");
    tell(lab, "{\"op\":\"service\",\"name\":\"s\",\"endpoints\":[\"web\"],\"type\":\"NodePort\"}");
    refuses(lab, KN_E_IN_USE, "node port 30000 is in use",
            "{\"op\":\"service\",\"endpoints\":[\"web\"],\"type\":\"NodePort\",\"node_port\":30000}");
    refuses(lab, KN_E_ARGUMENT, "did you mean 'edge'?", "{\"op\":\"delete\",\"name\":\"edgy\"}");
    refuses(lab, KN_E_ARGUMENT, "delete requires a name", "{\"op\":\"delete\"}");
    refuses(lab, KN_E_ARGUMENT, "did you mean 'delete'?", "{\"op\":\"delet\"}");
    refuses(lab, KN_E_ARGUMENT, "op is required", "{}");
    refuses(lab, KN_E_ARGUMENT, "op is required", "[]");
    refuses(lab, KN_E_ARGUMENT, "exec requires argv", "{\"op\":\"exec\",\"in\":\"web\"}");
    tell(lab, "{\"op\":\"pod\"}"); /* the lab still works */
    kn_lab_close(lab);
}

/* Agents answer through their Unix sockets, and the lab knows which have ended. */
static bool control_answers(const char *path)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char answer[64] = "";
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(at.sun_path, sizeof at.sun_path, "%s", path);
    static const char request[] = "GET /v1/agent HTTP/1.1\r\nHost: lab\r\nKnbl-Token: " TOKEN
                                  "\r\nConnection: close\r\n\r\n";
    bool ok = connect(fd, (struct sockaddr *)&at, sizeof at) == 0 &&
              send(fd, request, strlen(request), MSG_NOSIGNAL) > 0 && recv(fd, answer, sizeof answer - 1, 0) > 0 &&
              strncmp(answer, "HTTP/1.1 200", 12) == 0;
    close(fd);
    return ok;
}

static void test_agents(void **state)
{
    (void)state;
    struct kn_lab *lab = with_pods("{\"token\":\"" TOKEN "\"}");
    json_t *status = ask(lab, "{\"op\":\"status\"}"), *pod, *entry;
    size_t i;
    assert_string_equal(text(json_object_get(status, "lab"), "token"), TOKEN);
    json_array_foreach(json_object_get(status, "nodes"), i, entry) assert_true(control_answers(text(entry, "control")));
    json_array_foreach(json_object_get(status, "pods"), i, entry) assert_true(control_answers(text(entry, "control")));
    json_decref(status);
    pod = ask(lab, "{\"op\":\"find\",\"name\":\"web\"}");
    char kill_it[64];
    snprintf(kill_it, sizeof kill_it, "kill -9 %d", (int)number(pod, "pid"));
    json_decref(pod);
    tell(lab, "{\"op\":\"exec\",\"argv\":[\"/bin/sh\",\"-c\",\"%s\"]}", kill_it);
    bool alive = true;
    for (uint64_t end = kn_now_ns() + 5 * KN_NS_PER_S; alive && kn_now_ns() < end;) {
        status = ask(lab, "{\"op\":\"status\"}");
        entry = json_array_get(json_object_get(status, "pods"), 0);
        alive = json_is_true(json_object_get(entry, "alive"));
        if (!alive)
            assert_int_equal(number(entry, "exit"), 128 + SIGKILL);
        json_decref(status);
    }
    assert_false(alive);
    refuses(lab, KN_E_LOST, "'web' has ended", "{\"op\":\"exec\",\"in\":\"web\",\"argv\":[\"true\"]}");
    tell(lab, "{\"op\":\"delete\",\"name\":\"web\"}");
    kn_lab_close(lab);
}

static void test_exec(void **state)
{
    (void)state;
    struct kn_lab *lab = with_pods("{}");
    json_t *r = ask(lab, "{\"op\":\"exec\",\"in\":\"web\",\"capture\":true,\"argv\":[\"/bin/sh\",\"-c\",\"hostname; "
                         "echo $PPID; id -u; echo bad >&2; exit 7\"]}");
    assert_int_equal(number(r, "status"), 7);
    assert_string_equal(text(r, "output"), "web\n0\n0\nbad\n");
    json_decref(r);
    r = ask(lab, "{\"op\":\"exec\",\"in\":\"node-2\",\"capture\":true,\"argv\":[\"/bin/sh\",\"-c\",\"kill -9 $$\"]}");
    assert_int_equal(number(r, "status"), 128 + SIGKILL);
    json_decref(r);
    r = ask(lab, "{\"op\":\"exec\",\"in\":\"web\",\"capture\":true,\"argv\":[\"/nothing/there\"]}");
    assert_int_equal(number(r, "status"), 127);
    assert_non_null(strstr(text(r, "output"), "/nothing/there: No such file"));
    json_decref(r);
    r = ask(lab, "{\"op\":\"exec\",\"in\":\"web\",\"capture\":true,\"argv\":[\"/bin/sh\",\"-c\",\"ls -d /proc/[0-9]* | "
                 "wc -l\"]}");
    assert_true(atoi(text(r, "output")) <= 5); /* only its own processes: the agent and the program */
    json_decref(r);
    r = ask(lab, "{\"op\":\"exec\",\"capture\":true,\"argv\":[\"/bin/sh\",\"-c\",\"yes | head -c 3000000\"]}");
    assert_int_equal(number(r, "status"), 0);
    assert_true(strlen(text(r, "output")) > 500000 && strlen(text(r, "output")) <= 1 << 20);
    json_decref(r);
    kn_lab_close(lab);
}

/* Pods and nodes resolve each other's names, and those of Services. */
static void test_names(void **state)
{
    (void)state;
    struct kn_lab *lab = with_pods("{\"families\":4}");
    static const char script[] = "getent ahostsv4 %s | sort -u | awk '/STREAM/ {print $1}'";
    char words[200];
    tell(lab, "{\"op\":\"service\",\"name\":\"front\",\"endpoints\":[\"web\"]}");
    tell(lab, "{\"op\":\"service\",\"name\":\"bare\",\"endpoints\":[\"web\",\"db\"],\"headless\":true}");
    static const struct {
        const char *name, *is;
    } names[] = {
        {"web", "10.244.0.2\n"},
        {"node-2", "172.30.0.12\n"},
        {"front", "10.96.0.10\n"},
        {"bare", "10.244.0.2\n10.244.4.2\n"},
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(words, sizeof words, script, names[i].name);
        json_t *r = ask(lab, "{\"op\":\"exec\",\"in\":\"db\",\"capture\":true,\"argv\":[\"/bin/sh\",\"-c\",\"%s\"]}",
                        words);
        assert_string_equal(text(r, "output"), names[i].is);
        json_decref(r);
    }
    tell(lab, "{\"op\":\"delete\",\"name\":\"front\"}");
    json_t *r = ask(lab, "{\"op\":\"exec\",\"in\":\"db\",\"capture\":true,\"argv\":[\"cat\",\"/etc/hosts\"]}");
    assert_null(strstr(text(r, "output"), "front"));
    assert_non_null(strstr(text(r, "output"), "bare"));
    json_decref(r);
    kn_lab_close(lab);
}

/* If the lab may make cgroups, each pod has one, with its limits; else limits are refused. */
static void test_limits(void **state)
{
    (void)state;
    struct kn_lab *lab = with_pods("{}");
    json_t *place = ask(lab, "{\"op\":\"find\",\"name\":\"web\"}");
    bool able = json_array_size(json_object_get(place, "cgroups")) > 0;
    json_decref(place);
    refuses(lab, KN_E_ARGUMENT, "cpu must be from 0.01 to 1024 CPUs, like 0.5 or \"500m\", got 0",
            "{\"op\":\"pod\",\"cpu\":0}");
    refuses(lab, KN_E_ARGUMENT, "\"500m\", got half", "{\"op\":\"pod\",\"cpu\":\"half\"}");
    refuses(lab, KN_E_ARGUMENT, "memory must be 16M or more, got 1024 bytes", "{\"op\":\"pod\",\"memory\":\"1K\"}");
    refuses(lab, KN_E_ARGUMENT, "lots", "{\"op\":\"pod\",\"memory\":\"lots\"}");
    if (!able) {
        refuses(lab, KN_E_UNSUPPORTED, "cpu of a pod requires root", "{\"op\":\"pod\",\"cpu\":\"500m\"}");
        kn_lab_close(lab);
        return;
    }
    tell(lab, "{\"op\":\"pod\",\"name\":\"half\",\"node\":\"node-2\",\"cpu\":\"200m\",\"memory\":\"256Mi\"}");
    json_t *r = ask(lab, "{\"op\":\"exec\",\"in\":\"half\",\"capture\":true,\"argv\":[\"/bin/sh\",\"-c\","
                         "\"timeout 0.6 sh -c 'while :; do :; done'; times\"]}");
    int minutes;
    double seconds = 10;
    const char *children = strchr(text(r, "output"), '\n');
    assert_int_equal(sscanf(children, " %dm%lfs", &minutes, &seconds), 2);
    assert_true(seconds < 0.4);
    json_decref(r);
    kn_lab_close(lab);
}

static void test_hardened(void **state)
{
    (void)state;
    struct kn_lab *lab = with_pods("{}");
    tell(lab, "{\"op\":\"pod\",\"name\":\"hard\",\"node\":\"node-2\",\"hardened\":true}");
    json_t *r = ask(lab, "{\"op\":\"exec\",\"in\":\"hard\",\"capture\":true,\"argv\":[\"grep\",\"-E\",\"Seccomp:|"
                         "NoNewPrivs\",\"/proc/1/status\"]}");
    assert_string_equal(text(r, "output"), "NoNewPrivs:\t1\nSeccomp:\t2\n");
    json_decref(r);
    tell(lab, "{\"op\":\"pod\",\"name\":\"own\",\"command\":[\"/bin/sh\",\"-c\",\"unshare -n true 2>&1; mount -t tmpfs "
              "x /mnt; exec sleep 100\"],"
              "\"hardened\":true}");
    bool both = false;
    for (uint64_t end = kn_now_ns() + 5 * KN_NS_PER_S; !both && kn_now_ns() < end;) {
        r = ask(lab, "{\"op\":\"exec\",\"capture\":true,\"argv\":[\"cat\",\"/run/knbl/own.log\"]}");
        both = strstr(text(r, "output"), "unshare failed: Operation not permitted") &&
               strstr(text(r, "output"), "mount:");
        json_decref(r);
    }
    assert_true(both);
    kn_lab_close(lab);
}

static void test_commands(void **state)
{
    (void)state;
    struct kn_lab *lab = with_pods("{}");
    refuses(lab, KN_E_SYSTEM, "cannot run /nothing: No such file", "{\"op\":\"pod\",\"command\":[\"/nothing\"]}");
    refuses(lab, KN_E_LOST, "ended before it listened at port 9: I give up",
            "{\"op\":\"pod\",\"command\":[\"/bin/sh\",\"-c\",\"echo I give up\"],\"port\":9}");
    server(lab, "own", "node-1", "");
    tell(lab, "{\"op\":\"service\",\"name\":\"s\",\"endpoints\":[\"own\"],\"ports\":[{\"port\":80}]}");
    answers(lab, "db", "tcp", "10.96.0.10", 80, "own 10.244.4.2");
    kn_lab_close(lab);
}

/* If a part of a lab is killed, all of it ends, and requests fail. */
static void test_broken(void **state)
{
    (void)state;
    struct kn_lab *lab = with_pods("{}");
    kill(kn_lab_keeper_pid(lab), SIGKILL);
    refuses(lab, KN_E_LOST, "the lab has ended", "{\"op\":\"status\"}");
    refuses(lab, KN_E_LOST, "the lab has ended", "{\"op\":\"status\"}");
    kn_lab_close(lab);
    lab = with_pods("{}");
    char path[64], line[256];
    int warden = 0;
    snprintf(path, sizeof path, "/proc/%d/status", kn_lab_keeper_pid(lab));
    FILE *status = fopen(path, "re");
    while (fgets(line, sizeof line, status))
        if (sscanf(line, "PPid: %d", &warden) == 1)
            break;
    fclose(status);
    assert_true(warden > 1 && warden != getpid());
    kill(warden, SIGKILL);
    struct kn_error err;
    json_t *request = json_pack("{s:s}", "op", "status"), *answer;
    uint64_t end = kn_now_ns() + 5 * KN_NS_PER_S;
    while ((answer = kn_lab_request(lab, request, &err)) && kn_now_ns() < end)
        json_decref(answer);
    assert_null(answer);
    json_decref(request);
    kn_lab_close(lab);
}

/* Two labs at once are independent. */
static void test_two(void **state)
{
    (void)state;
    struct kn_lab *one = with_pods("{}"), *two = with_pods("{}");
    server(one, "s", "node-1", "");
    server(two, "t", "node-1", "");
    answers(one, "db", "tcp", "10.244.0.3", 9000, "s 10.244.4.2");
    answers(two, "db", "tcp", "10.244.0.3", 9000, "t 10.244.4.2");
    kn_lab_close(one);
    answers(two, "db", "tcp", "10.244.0.3", 9000, "t 10.244.4.2");
    kn_lab_close(two);
}

int main(int argc, char **argv)
{
    inside_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options), cmocka_unit_test(test_refusals), cmocka_unit_test(test_agents),
        cmocka_unit_test(test_exec),    cmocka_unit_test(test_commands), cmocka_unit_test(test_names),
        cmocka_unit_test(test_limits),  cmocka_unit_test(test_hardened), cmocka_unit_test(test_two),
        cmocka_unit_test(test_broken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
