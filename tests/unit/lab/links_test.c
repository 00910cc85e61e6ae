/* The links of a lab: their MTU, and what they count. */
#include "inside.h"

static unsigned mss(struct kn_lab *lab, const char *where, const char *host)
{
    return (unsigned)atoi(from(lab, where, "tmss", host, 7099));
}

/* The segment size shows the path's MTU: 40 bytes of headers less, 12 of timestamps, 20 more for IPv6. */
static void test_mtu(void **state)
{
    static const struct {
        const char *options;
        unsigned v4, v6;
    } cases[] = {
        {"{}", 1448, 1428},
        {"{\"overlay\":\"vxlan\"}", 1398, 1378},
        {"{\"mtu\":9000}", 8948, 8928},
        {"{\"mtu\":1280}", 1228, 1208},
        {"{\"mtu\":9000,\"overlay\":\"vxlan\"}", 8898, 8878},
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct kn_lab *lab = with_pods(cases[i].options);
        assert_int_equal(mss(lab, "web", "10.244.4.2"), cases[i].v4);
        assert_int_equal(mss(lab, "web", "fd00:10:244:2::2"), cases[i].v6);
        kn_lab_close(lab);
    }
    struct kn_lab *lab = with_pods("{}");
    tell(lab, "{\"op\":\"pod\",\"name\":\"small\",\"node\":\"node-2\",\"mtu\":1400}");
    assert_int_equal(mss(lab, "web", "10.244.4.3"), 1348);
    assert_int_equal(mss(lab, "small", "10.244.0.2"), 1348);
    tell(lab,
         "{\"op\":\"pod\",\"name\":\"wide\",\"node\":\"node-2\"}"); /* a neighbour with a smaller MTU does not matter */
    assert_int_equal(mss(lab, "web", "10.244.4.4"), 1448);
    tell(lab, "{\"op\":\"delete\",\"name\":\"small\"}");
    tell(lab, "{\"op\":\"pod\",\"name\":\"again\",\"node\":\"node-2\"}");
    assert_int_equal(mss(lab, "web", "10.244.4.3"), 1448);
    kn_lab_close(lab);
    lab = with_pods("{\"mtu\":576,\"families\":4}");
    assert_int_equal(mss(lab, "web", "10.244.4.2"), 524);
    kn_lab_close(lab);
}

static double counter(struct kn_lab *lab, const char *owner, const char *name, const char *which)
{
    json_t *links = ask(lab, "{\"op\":\"links\"}"), *entry;
    double value = -1;
    size_t i;
    json_array_foreach(json_object_get(links, "links"), i,
                       entry) if (strcmp(text(entry, "owner"), owner) == 0 && strcmp(text(entry, "name"), name) == 0)
        value = number(entry, which);
    json_decref(links);
    return value;
}

/* Traffic to another node crosses the fabric; traffic within a node does not. */
static void test_links(void **state)
{
    (void)state;
    struct kn_lab *lab = with_pods("{}");
    tell(lab, "{\"op\":\"pod\",\"name\":\"cache\",\"node\":\"node-2\"}");
    char *out = run_in(lab, "db", "\"ask\",\"udp\",\"10.244.4.3\",\"9\"");
    free(out);
    double fabric = counter(lab, "fabric", "node2", "rx_packets"), pod = counter(lab, "node-2", "pod2", "rx_packets");
    assert_true(fabric >= 0 && pod > 0);
    json_t *r = ask(lab,
                    "{\"op\":\"exec\",\"in\":\"db\",\"capture\":true,\"argv\":[\"%s\",\"ask\",\"udp\",\"10.244.4.3\","
                    "\"9\",\"udp\",\"10.244.4.3\",\"9\"]}",
                    self());
    json_decref(r);
    assert_true(counter(lab, "node-2", "pod2", "rx_packets") >= pod + 2);
    assert_true(counter(lab, "fabric", "node2", "rx_packets") <= fabric + 2); /* at most neighbour discovery */
    fabric = counter(lab, "fabric", "node2", "rx_bytes");
    for (int i = 0; i < 5; i++)
        free(run_in(lab, "db", "\"ask\",\"udp\",\"10.244.0.2\",\"9\",\"udp\",\"10.244.0.2\",\"9\""));
    assert_true(counter(lab, "fabric", "node2", "rx_bytes") >= fabric + 10 * 29);
    kn_lab_close(lab);
}

int main(int argc, char **argv)
{
    inside_main(argc, argv);
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_mtu), cmocka_unit_test(test_links)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
