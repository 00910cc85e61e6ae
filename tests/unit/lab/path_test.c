/* Every path from a client to a server, in every kind of lab: which server answers, and which address it sees. */
#include "inside.h"

static const char *const overlay_none[] = {"{\"families\":\"dual\"}", "{\"mode\":\"chains\"}",
                                           "{\"mode\":\"chains\",\"services\":3}", "{\"services\":3}"};
static const char *const overlay_vxlan[] = {"{\"overlay\":\"vxlan\"}"};

/* a on node 1; b and c on node 2, with h in that node's network */
static struct kn_lab *build(const char *options)
{
    struct kn_lab *lab = open_lab(options);
    tell(lab, "{\"op\":\"node\"}");
    tell(lab, "{\"op\":\"node\"}");
    server(lab, "a", "node-1", "");
    server(lab, "b", "node-2", "");
    server(lab, "c", "node-2", "");
    server(lab, "h", "node-2", ",\"runtime\":\"host\"");
    tell(lab, "{\"op\":\"service\",\"name\":\"one\",\"endpoints\":[\"b\"],\"type\":\"NodePort\"}");
    tell(lab, "{\"op\":\"service\",\"name\":\"host\",\"endpoints\":[\"h\"],\"ports\":[{\"port\":80,\"target\":9000}]}");
    return lab;
}

static void pods(struct kn_lab *lab, const char *proto)
{
    answers(lab, "a", proto, "10.244.4.2", 9000, "b 10.244.0.2"); /* another node */
    answers(lab, "a", proto, "fd00:10:244:2::2", 9000, "b fd00:10:244:1::2");
    answers(lab, "c", proto, "10.244.4.2", 9000, "b 10.244.4.3"); /* the same node */
    answers(lab, "c", proto, "fd00:10:244:2::2", 9000, "b fd00:10:244:2::3");
    answers(lab, "b", proto, "10.244.4.2", 9000, "b 10.244.4.2"); /* itself */
    answers(lab, "node-2", proto, "10.244.4.2", 9000, "b 10.244.4.1");
    answers(lab, "a", proto, "172.30.0.12", 9000, "h 10.244.0.2"); /* a node's address */
    answers(lab, "b", proto, "172.30.0.12", 9000, "h 10.244.4.2");
    answers(lab, "b", proto, "fd00:10:30::c", 9000, "h fd00:10:244:2::2");
}

/* A server behind a Service sees a pod's own address; traffic of the node, and of a pod to itself, is masqueraded. */
static void services(struct kn_lab *lab, const char *proto)
{
    answers(lab, "a", proto, "10.96.0.10", 9000, "b 10.244.0.2");
    answers(lab, "a", proto, "fd00:10:96::a", 9000, "b fd00:10:244:1::2");
    answers(lab, "c", proto, "10.96.0.10", 9000, "b 10.244.4.3");
    answers(lab, "b", proto, "10.96.0.10", 9000, "b 10.244.4.1"); /* hairpin */
    answers(lab, "b", proto, "fd00:10:96::a", 9000, "b fd00:10:244:2::1");
    answers(lab, "node-2", proto, "10.96.0.10", 9000, "b 10.244.4.1");
    answers(lab, "a", proto, "10.96.0.11", 80, "h 10.244.0.2");
    answers(lab, "b", proto, "10.96.0.11", 80, "h 10.244.4.2");
    answers(lab, "node-1", proto, "fd00:10:96::b", 80, "h fd00:10:30::b");
}

static void node_ports(struct kn_lab *lab, const char *proto)
{
    answers(lab, "a", proto, "172.30.0.12", 30000, "b 10.244.4.1");
    answers(lab, "b", proto, "172.30.0.12", 30000, "b 10.244.4.1");
    answers(lab, "c", proto, "fd00:10:30::c", 30000, "b fd00:10:244:2::1");
    answers(lab, "node-2", proto, "172.30.0.12", 30000, "b 10.244.4.1");
    answers(lab, "", proto, "172.30.0.12", 30000, "b 10.244.4.1"); /* from outside */
    answers(lab, "", proto, "fd00:10:30::c", 30000, "b fd00:10:244:2::1");
}

/* The node's address in the network that leads to the pod: the fabric's, or the overlay's. */
static void from_other_nodes(struct kn_lab *lab, const char *proto, const char *seen)
{
    char expected[64];
    snprintf(expected, sizeof expected, "b %s", seen);
    answers(lab, "node-1", proto, "10.244.4.2", 9000, expected);
    answers(lab, "node-1", proto, "10.96.0.10", 9000, expected);
    answers(lab, "a", proto, "172.30.0.11", 30000, expected);
    answers(lab, "", proto, "172.30.0.11", 30000, expected);
}

static void all(const char *options, const char *node_1)
{
    static const char *const protos[] = {"tcp", "udp"};
    struct kn_lab *lab = build(options);
    for (int i = 0; i < 2; i++) {
        pods(lab, protos[i]);
        services(lab, protos[i]);
        node_ports(lab, protos[i]);
        from_other_nodes(lab, protos[i], node_1);
    }
    kn_lab_close(lab);
}

static void test_routed(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof overlay_none / sizeof *overlay_none; i++)
        all(overlay_none[i], "172.30.0.11");
}

static void test_vxlan(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof overlay_vxlan / sizeof *overlay_vxlan; i++)
        all(overlay_vxlan[i], "10.244.3.253");
}

/* One family, and nothing of the other. */
static void test_single_family(void **state)
{
    static const char *const options[] = {"{\"families\":4}", "{\"families\":\"6\",\"overlay\":\"none\"}",
                                          "{\"families\":6,\"overlay\":\"vxlan\"}"};
    (void)state;
    for (size_t i = 0; i < 3; i++) {
        struct kn_lab *lab = build(options[i]);
        bool four = i == 0;
        answers(lab, "a", "tcp", "10.244.4.2", 9000, four ? "b 10.244.0.2" : "-");
        answers(lab, "a", "udp", "10.96.0.10", 9000, four ? "b 10.244.0.2" : "-");
        answers(lab, "a", "tcp", "fd00:10:244:2::2", 9000, four ? "-" : "b fd00:10:244:1::2");
        answers(lab, "b", "udp", "fd00:10:96::a", 9000, four ? "-" : "b fd00:10:244:2::1");
        kn_lab_close(lab);
    }
}

static unsigned heard(const char *text, const char *name)
{
    unsigned n = 0;
    for (const char *p = text; (p = strstr(p, name)); p++)
        n++;
    return n;
}

static char *forty(struct kn_lab *lab, const char *where, const char *ip)
{
    char words[4096] = "\"ask\"";
    for (int i = 0; i < 40; i++)
        snprintf(words + strlen(words), sizeof words - strlen(words), ",\"tcp\",\"%s\",\"9000\"", ip);
    return run_in(lab, where, words);
}

static json_int_t counted(struct kn_lab *lab, const char *service, const char *endpoint)
{
    json_t *answer = ask(lab, "{\"op\":\"backends\",\"service\":\"%s\"}", service), *entry;
    json_int_t sum = 0;
    size_t i;
    json_array_foreach(json_object_get(answer, "backends"), i,
                       entry) if (strcmp(json_string_value(json_object_get(entry, "endpoint")), endpoint) == 0)
        sum += json_integer_value(json_object_get(entry, "connections"));
    json_decref(answer);
    return sum;
}

/* 40 connections reach all of three endpoints (one is missed in 3 of ten million runs), and DNAT counts them; with
 * affinity a client keeps one. */
static void test_choice(void **state)
{
    static const char *const modes[] = {"{\"mode\":\"maps\"}", "{\"mode\":\"chains\"}"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct kn_lab *lab = build(modes[i]);
        tell(lab, "{\"op\":\"service\",\"name\":\"three\",\"endpoints\":[\"b\",\"c\",\"h\"]}");
        tell(lab, "{\"op\":\"service\",\"name\":\"kept\",\"endpoints\":[\"b\",\"c\",\"h\"],\"affinity\":true}");
        char *text = forty(lab, "a", "10.96.0.12"), *kept = forty(lab, "a", "10.96.0.13");
        static const char *const names[] = {"b", "c", "h"};
        char line[16];
        bool one = false;
        for (int k = 0; k < 3; k++) {
            snprintf(line, sizeof line, "%s 10.244.0.2\n", names[k]);
            assert_true(heard(text, line) > 0);
            assert_int_equal(counted(lab, "three", names[k]), heard(text, line));
            if (heard(kept, line) == 40 && counted(lab, "kept", names[k]) == 40)
                one = true;
        }
        assert_true(one);
        free(text);
        free(kept);
        kn_lab_close(lab);
    }
}

/* The Services that b leaves. The IPs are those of the third and later ones. */
static void add_services(struct kn_lab *lab)
{
    tell(lab, "{\"op\":\"service\",\"name\":\"three\",\"endpoints\":[\"b\",\"c\",\"h\"],"
              "\"external_ips\":[\"10.99.1.1\"]}");
    tell(lab, "{\"op\":\"service\",\"name\":\"kept\",\"endpoints\":[\"b\",\"c\"],\"affinity\":true}");
    tell(lab, "{\"op\":\"service\",\"name\":\"near\",\"endpoints\":[\"b\",\"a\"],\"type\":\"NodePort\","
              "\"external_traffic_policy\":\"Local\"}");
}

/* A pod that is deleted leaves its Services; the others keep their counts and their clients. A Service without an
 * endpoint answers nothing. */
static void test_an_endpoint_leaves(void **state)
{
    static const char *const modes[] = {"{\"mode\":\"maps\"}", "{\"mode\":\"chains\"}"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct kn_lab *lab = build(modes[i]);
        add_services(lab);
        char *before = forty(lab, "a", "10.96.0.12");
        unsigned was_c = *from(lab, "a", "tcp", "10.96.0.13", 9000) == 'c';
        tell(lab, "{\"op\":\"delete\",\"name\":\"b\"}");
        char *after = forty(lab, "a", "10.96.0.12"), *kept = forty(lab, "a", "10.96.0.13");
        unsigned of_c = heard(after, "c 10.244.0.2\n");
        assert_true(heard(before, "b 10.244.0.2\n") > 0);
        assert_int_equal(of_c + heard(after, "h 10.244.0.2\n"), 40);
        assert_int_equal(counted(lab, "three", "c"), heard(before, "c 10.244.0.2\n") + of_c);
        assert_int_equal(heard(kept, "c 10.244.0.2\n"), 40);
        assert_int_equal(counted(lab, "kept", "c"), 40 + was_c);
        answers(lab, "", "tcp", "172.30.0.11", 30001, "a 172.30.0.1");
        answers(lab, "", "udp", "172.30.0.12", 30001, "-");
        answers(lab, "a", "udp", "10.96.0.10", 9000, "-"); /* it had b alone */
        tell(lab, "{\"op\":\"delete\",\"name\":\"c\"}");
        answers(lab, "a", "udp", "10.96.0.12", 9000, "h 10.244.0.2");
        assert_int_equal(*from(lab, "a", "tcp", "10.99.1.1", 9000), 'h');
        free(before);
        free(after);
        free(kept);
        kn_lab_close(lab);
    }
}

/* Traffic from outside keeps its address and reaches only nodes with an endpoint; a node and its own pods reach all. */
static void test_local_alone(void **state)
{
    static const char *const labs[] = {"{}", "{\"mode\":\"chains\"}", "{\"overlay\":\"vxlan\"}"};
    (void)state;
    for (int i = 0; i < 3; i++) {
        struct kn_lab *lab = build(labs[i]);
        tell(
            lab,
            "{\"op\":\"service\",\"name\":\"near\",\"endpoints\":[\"a\",\"b\"],\"type\":\"NodePort\",\"affinity\":true,"
            "\"external_traffic_policy\":\"Local\"}");
        tell(lab, "{\"op\":\"node\"}"); /* made later, without an endpoint */
        for (int k = 0; k < 4; k++) {
            answers(lab, "", "tcp", "172.30.0.11", 30001, "a 172.30.0.1");
            answers(lab, "", "udp", "fd00:10:30::c", 30001, "b fd00:10:30::1");
            answers(lab, "node-1", "tcp", "172.30.0.12", 30001, "b 172.30.0.11");
        }
        answers(lab, "", "udp", "172.30.0.13", 30001, "-");
        const char *seen = from(lab, "node-3", "tcp", "172.30.0.13", 30001);
        assert_true(*seen == 'a' || *seen == 'b');
        answers(lab, "c", "udp", "172.30.0.13", 30001, "-");
        seen = from(lab, "c", "udp", "172.30.0.12", 30001);
        assert_true(*seen == 'a' || *seen == 'b');
        tell(lab, "{\"op\":\"delete\",\"name\":\"near\"}");
        answers(lab, "", "udp", "172.30.0.11", 30001, "-");
        kn_lab_close(lab);
    }
}

static void test_headless_and_ports(void **state)
{
    (void)state;
    struct kn_lab *lab = build("{}");
    json_t *s = ask(lab, "{\"op\":\"service\",\"endpoints\":[\"b\",\"c\"],\"headless\":true}"),
           *ip = json_object_get(s, "ip");
    assert_int_equal(json_array_size(ip), 4);
    assert_string_equal(json_string_value(json_array_get(ip, 0)), "10.244.4.2");
    assert_string_equal(json_string_value(json_array_get(ip, 2)), "10.244.4.3");
    json_decref(s);
    s = ask(lab, "{\"op\":\"service\",\"name\":\"ports\",\"endpoints\":[\"c\"],\"type\":\"NodePort\","
                 "\"ports\":[{\"port\":80,\"target\":9000,\"protocol\":\"tcp\"},{\"port\":81,\"node_port\":31000}]}");
    assert_int_equal(json_integer_value(json_object_get(s, "node_port")), 30001);
    json_decref(s);
    answers(lab, "a", "tcp", "10.96.0.13", 80, "c 10.244.0.2");
    answers(lab, "a", "udp", "10.96.0.13", 80, "-");
    answers(lab, "a", "udp", "10.96.0.13", 81, "c 10.244.0.2");
    answers(lab, "", "tcp", "172.30.0.12", 31000, "c 10.244.4.1");
    answers(lab, "", "tcp", "172.30.0.12", 30001, "c 10.244.4.1");
    kn_lab_close(lab);
}

/* Datagrams larger than a pod's MTU are fragmented. */
static void test_narrow(void **state)
{
    (void)state;
    struct kn_lab *lab = build("{}");
    server(lab, "n", "node-2", ",\"mtu\":1300");
    tell(lab, "{\"op\":\"service\",\"name\":\"narrow\",\"endpoints\":[\"n\"]}");
    answers(lab, "a", "udp1400", "10.244.4.4", 9000, "n 10.244.0.2");
    answers(lab, "a", "udp1400", "fd00:10:244:2::4", 9000, "n fd00:10:244:1::2");
    answers(lab, "c", "udp1400", "10.96.0.12", 9000, "n 10.244.4.3");
    kn_lab_close(lab);
}

/* Deleted things are gone, the others still work, and names and addresses can be used again. */
static void test_delete(void **state)
{
    static const char *const modes[] = {"{\"mode\":\"maps\",\"services\":2}", "{\"mode\":\"chains\",\"services\":2}"};
    (void)state;
    for (int i = 0; i < 2; i++) {
        struct kn_lab *lab = build(modes[i]);
        tell(lab, "{\"op\":\"delete\",\"name\":\"one\"}");
        answers(lab, "", "tcp", "172.30.0.12", 30000, "-");
        answers(lab, "a", "tcp", "10.96.0.11", 80, "h 10.244.0.2");
        tell(lab, "{\"op\":\"delete\",\"name\":\"b\"}");
        refuses(lab, KN_E_IN_USE, "still has pods", "{\"op\":\"delete\",\"name\":\"node-2\"}");
        server(lab, "b", "node-2", "");
        tell(lab, "{\"op\":\"service\",\"name\":\"one\",\"endpoints\":[\"b\"],\"affinity\":true}");
        answers(lab, "a", "tcp", "10.96.0.10", 9000, "b 10.244.0.2");
        tell(lab, "{\"op\":\"delete\",\"name\":\"one\"}");
        tell(lab, "{\"op\":\"delete\",\"name\":\"a\"}");
        tell(lab, "{\"op\":\"delete\",\"name\":\"node-1\"}");
        tell(lab, "{\"op\":\"node\",\"name\":\"other\"}");
        server(lab, "a", "other", "");
        answers(lab, "a", "tcp", "10.244.4.2", 9000, "b 10.244.0.2");
        answers(lab, "a", "tcp", "10.96.0.11", 80, "h 10.244.0.2");
        kn_lab_close(lab);
    }
}

int main(int argc, char **argv)
{
    inside_main(argc, argv);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_routed),
        cmocka_unit_test(test_vxlan),
        cmocka_unit_test(test_single_family),
        cmocka_unit_test(test_choice),
        cmocka_unit_test(test_local_alone),
        cmocka_unit_test(test_an_endpoint_leaves),
        cmocka_unit_test(test_headless_and_ports),
        cmocka_unit_test(test_narrow),
        cmocka_unit_test(test_delete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
