/* Text to numbers and back: what people type, what they mistype, and that what is printed can be read again. */
#include "check.h"

#include <locale.h>
#include <math.h>
#include <stdio.h>

#include "core/units.h"

struct good {
    const char *text;
    uint64_t value;
};
struct bad {
    const char *text, *says;
};
typedef int parser(const char *text, uint64_t *value, struct kn_error *err);

static void takes(parser *parse, const struct good *list)
{
    for (; list->text; list++) {
        struct kn_error err = {.message = ""};
        uint64_t value = 12345;
        if (parse(list->text, &value, &err) || value != list->value)
            fail_msg("\"%s\": %llu instead of %llu %s", list->text, (unsigned long long)value,
                     (unsigned long long)list->value, err.message);
    }
}

static void refuses(parser *parse, const struct bad *list)
{
    for (; list->text; list++) {
        struct kn_error err = {.message = ""};
        uint64_t value = 12345;
        if (parse(list->text, &value, &err) == 0)
            fail_msg("\"%s\" was taken as %llu", list->text, (unsigned long long)value);
        check_refusal(&err, KN_E_ARGUMENT, list->says);
        assert_non_null(strstr(err.message, "for example"));
        assert_int_equal(value, 12345);
    }
}

static void durations(void **state)
{
    static const struct good good[] = {
        {"10s", 10000000000},
        {"200ms", 200000000},
        {"1m30s", 90000000000},
        {"50us", 50000},
        {"50µs", 50000},
        {"50μs", 50000},
        {"2h", 7200000000000},
        {"1.5s", 1500000000},
        {"10", 10000000000},
        {"0.25", 250000000},
        {"0", 0},
        {"0s", 0},
        {"7ns", 7},
        {"1.5ns", 2},
        {"1h2m3s4ms5us6ns", 3723004005006},
        {"1 m 30 s", 90000000000},
        {" 10s\t", 10000000000},
        {"27.6 µs", 27600},
        {"007s", 7000000000},
        {"90min", 5400000000000},
        {"365h", 1314000000000000},
        {"0.000000001", 1},
        {"2h05m", 7500000000000},
        {"0.123456789012345678s", 123456789},
        {NULL, 0},
    };
    static const struct bad bad[] = {
        {"", "empty"},
        {"  ", "empty"},
        {"-1s", "negative"},
        {"s", "not a number"},
        {"10x", "no valid unit"},
        {"10 parsecs", "no valid unit"},
        {"10S", "no valid unit"},
        {"1s1m", "wrong order"},
        {"1s1s", "wrong order"},
        {"1m30", "no valid unit"},
        {"1.s", "point"},
        {"1..5s", "point"},
        {"1e3", "no valid unit"},
        {"9000h", "year"},
        {"8760h1ns", "year"},
        {"99999999999999999999s", "large"},
        {"0.1ns", "nanosecond"},
        {"nan", "not a number"},
        {"inf", "not a number"},
        {"+1s", "not a number"},
        {"0x10s", "no valid unit"},
        {"1,5s", "no valid unit"},
        {"10s\n", "no valid unit"},
        {"\xff\xfe", "not a number"},
        {"0.1234567890123456789s", "too many digits"},
        {"1111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111111"
         "111111111111111111111",
         "too long"},
        {NULL, NULL},
    };
    (void)state;
    takes(kn_duration_parse, good);
    refuses(kn_duration_parse, bad);
}

static void sizes(void **state)
{
    static const struct good good[] = {
        {"64", 64},         {"0", 0},           {"4K", 4096},          {"4k", 4096},          {"1M", 1 << 20},
        {"2G", 2ull << 30}, {"1T", 1ull << 40}, {"4KiB", 4096},        {"4Ki", 4096},         {"4kB", 4000},
        {"4KB", 4000},      {"1MB", 1000000},   {"64 KiB", 65536},     {"1.5K", 1536},        {"0.5kB", 500},
        {"64B", 64},        {"45 B", 45},       {"1.50 MiB", 1572864}, {"1024T", 1ull << 50}, {NULL, 0},
    };
    static const struct bad bad[] = {
        {"", "empty"},
        {"K", "not a number"},
        {"-64", "negative"},
        {"4X", "no valid unit"},
        {"4KK", "no valid unit"},
        {"0.3K", "whole"},
        {"1.5", "whole"},
        {"1025T", "large"},
        {"999999999999999999T", "large"},
        {"1e6", "no valid unit"},
        {"64s", "no valid unit"},
        {"64 K B", "no valid unit"},
        {NULL, NULL},
    };
    (void)state;
    takes(kn_size_parse, good);
    refuses(kn_size_parse, bad);
}

static void counts(void **state)
{
    static const struct good good[] = {{"100000", 100000}, {"20k", 20000}, {"1M", 1000000},
                                       {"2.5k", 2500},     {"0", 0},       {NULL, 0}};
    static const struct bad bad[] = {
        {"1.5", "whole"}, {"20kB", "no valid unit"}, {"-3", "negative"}, {"2000T", "large"}, {NULL, NULL}};
    (void)state;
    takes(kn_count_parse, good);
    refuses(kn_count_parse, bad);
}

static void rates(void **state)
{
    static const struct {
        const char *text;
        uint64_t per_1000s, bps;
    } good[] = {
        {"20k/s", 20000000, 0},
        {"0.5/s", 500, 0},
        {"1/s", 1000, 0},
        {"1M/s", 1000000000, 0},
        {"18.2 k/s", 18200000, 0},
        {"0/s", 0, 0},
        {"100M", 0, 100000000},
        {"1Gbit/s", 0, 1000000000},
        {"500kbps", 0, 500000},
        {"9.41 Gbit/s", 0, 9410000000},
        {"64", 0, 64},
        {"1Gbit", 0, 1000000000},
        {"8 Mbits/s", 0, 8000000},
        {"3kb/s", 0, 3000},
        {"10MB/s", 0, 80000000},
        {"0", 0, 0},
        {"10T", 0, 10000000000000},
    };
    static const struct bad bad[] = {
        {"", "empty"},
        {"/s", "not a number"},
        {"20x/s", "unit of a rate"},
        {"20k/m", "unit of a rate"},
        {"-1/s", "negative"},
        {"11T", "is too large"},
        {"2G/s", "is too large"},
        {"0.0001/s", "is too small"},
        {"0.1bps", "is too small"},
        {"1Kibit/s", "unit of a rate"},
        {NULL, NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        struct kn_error err = {.message = ""};
        struct kn_rate rate = {1, 1};
        if (kn_rate_parse(good[i].text, &rate, &err) || rate.per_1000s != good[i].per_1000s || rate.bps != good[i].bps)
            fail_msg("\"%s\": %llu, %llu %s", good[i].text, (unsigned long long)rate.per_1000s,
                     (unsigned long long)rate.bps, err.message);
    }
    for (const struct bad *b = bad; b->text; b++) {
        struct kn_error err = {.message = ""};
        struct kn_rate rate;
        assert_int_equal(kn_rate_parse(b->text, &rate, &err), -1);
        check_refusal(&err, KN_E_ARGUMENT, b->says);
    }
}

static void check_list(const char *text, const char *want)
{
    struct kn_error err = {.message = ""};
    uint64_t list[64];
    char got[1024] = "";
    int n = kn_size_list_parse(text, list, 64, &err);
    for (int i = 0; i < n; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%llu", i ? " " : "", (unsigned long long)list[i]);
    if (n < 0 || strcmp(got, want) != 0)
        fail_msg("\"%s\": \"%s\" instead of \"%s\" %s", text, got, want, err.message);
}

static void lists(void **state)
{
    static const struct bad bad[] = {
        {"", "empty"},
        {"1,", "empty"},
        {",1", "empty"},
        {"1:64", "without a step"},
        {"1:64:*1", "never ends"},
        {"1:64:*0", "never ends"},
        {"0:64:*2", "never ends"},
        {"1:64:+0", "never ends"},
        {"64:1:*2", "ends before"},
        {"1:1T:+1", "too many"},
        {"1:2:3:4", "no valid unit"},
        {"1:x:*2", "not a number"},
        {"1::*2", "empty"},
        {"1:64:*", "empty"},
        {"1:64:-1", "negative"},
        {"4,5x", "no valid unit"},
        {NULL, NULL},
    };
    (void)state;
    check_list("1:256K:*64", "1 64 4096 262144");
    check_list("1:64K:*2", "1 2 4 8 16 32 64 128 256 512 1024 2048 4096 8192 16384 32768 65536");
    check_list("96:1460:+64",
               "96 160 224 288 352 416 480 544 608 672 736 800 864 928 992 1056 1120 1184 1248 1312 1376 1440");
    check_list("96:224:64", "96 160 224");
    check_list("64", "64");
    check_list("1,64,4K", "1 64 4096");
    check_list(" 1, 64:128:*2 ,1M", "1 64 128 1048576");
    check_list("5:5:*2", "5");
    check_list("256T:1024T:*512", "281474976710656");
    check_list("1023T:1024T:+1023T", "1124800395214848");
    for (const struct bad *b = bad; b->text; b++) {
        struct kn_error err = {.message = ""};
        uint64_t list[64];
        if (kn_size_list_parse(b->text, list, 64, &err) >= 0)
            fail_msg("\"%s\" was taken", b->text);
        check_refusal(&err, KN_E_ARGUMENT, b->says);
    }
}

static void formats(void **state)
{
    static const struct {
        double value;
        const char *duration, *bits, *rate;
    } list[] = {
        {0, "0 ns", "0 bit/s", "0 /s"},
        {1, "1.00 ns", "1.00 bit/s", "1.00 /s"},
        {999.4, "999 ns", "999 bit/s", "999 /s"},
        {999.6, "1.00 µs", "1.00 kbit/s", "1.00 k/s"},
        {27600, "27.6 µs", "27.6 kbit/s", "27.6 k/s"},
        {9995, "10.0 µs", "10.0 kbit/s", "10.0 k/s"},
        {9.41e9, "9.41 s", "9.41 Gbit/s", "9.41 G/s"},
        {182345, "182 µs", "182 kbit/s", "182 k/s"},
        {999600, "1.00 ms", "1.00 Mbit/s", "1.00 M/s"},
        {1.5e11, "2m30s", "150 Gbit/s", "150 G/s"},
        {7.5e12, "2h05m", "7.50 Tbit/s", "7500 G/s"},
        {-2500, "-2.50 µs", "-2.50 kbit/s", "-2.50 k/s"},
        {0.25, "0.25 ns", "0.25 bit/s", "0.25 /s"},
        {NAN, "-", "-", "-"},
        {INFINITY, "-", "-", "-"},
    };
    static const struct {
        uint64_t bytes;
        const char *text;
    } sizes_list[] = {
        {0, "0 B"},       {45, "45 B"},       {1023, "1023 B"},          {1024, "1 KiB"},          {65536, "64 KiB"},
        {1536, "1536 B"}, {1 << 20, "1 MiB"}, {1400 * 1024, "1.37 MiB"}, {UINT64_MAX, "16.0 EiB"},
    };
    char buf[16];
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        assert_string_equal(kn_format_duration(buf, sizeof buf, list[i].value, false), list[i].duration);
        assert_string_equal(kn_format_bits(buf, sizeof buf, list[i].value), list[i].bits);
        assert_string_equal(kn_format_rate(buf, sizeof buf, list[i].value), list[i].rate);
    }
    assert_string_equal(kn_format_duration(buf, sizeof buf, 27600, true), "27.6 us");
    for (size_t i = 0; i < sizeof sizes_list / sizeof *sizes_list; i++)
        assert_string_equal(kn_format_size(buf, sizeof buf, sizes_list[i].bytes), sizes_list[i].text);
}

/* Three figures are within half a percent, and nothing that is printed is refused. */
static void what_is_printed_can_be_read(void **state)
{
    struct random r = {3};
    struct kn_error err;
    struct kn_rate rate;
    char buf[32];
    uint64_t back;
    (void)state;
    for (int i = 0; i < 20000; i++) {
        uint64_t v = 1 + (random_next(&r) >> (20 + random_next(&r) % 44));
        double d = (double)v;
        assert_int_equal(kn_duration_parse(kn_format_duration(buf, sizeof buf, d, i % 2), &back, &err), 0);
        if (fabs((double)back - d) > d * 0.0051)
            fail_msg("%s for %llu", buf, (unsigned long long)v);
        if (kn_size_parse(kn_format_size(buf, sizeof buf, v), &back, &err) == 0 && fabs((double)back - d) > d * 0.0051)
            fail_msg("%s", buf);
        assert_int_equal(kn_rate_parse(kn_format_bits(buf, sizeof buf, fmin(d, 9e12)), &rate, &err), 0);
        assert_true(fabs((double)rate.bps - fmin(d, 9e12)) <= d * 0.0051);
        assert_int_equal(kn_rate_parse(kn_format_rate(buf, sizeof buf, fmin(d, 9e8)), &rate, &err), 0);
        assert_true(fabs((double)rate.per_1000s / 1000 - fmin(d, 9e8)) <= d * 0.0051);
    }
}

static void the_locale_changes_nothing(void **state)
{
    char buf[16];
    uint64_t ns;
    struct kn_error err;
    (void)state;
    if (!setlocale(LC_ALL, "de_DE.UTF-8") && !setlocale(LC_ALL, "fr_FR.UTF-8"))
        skip();
    assert_string_equal(kn_format_duration(buf, sizeof buf, 1500, true), "1.50 us");
    assert_int_equal(kn_duration_parse("1.5s", &ns, &err), 0);
    setlocale(LC_ALL, "C");
}

static void nearest(void **state)
{
    static const char *const names[] = {"duration", "warmup", "flows", "size", "rate", "ip", "nodelay", "response"};
    static const struct {
        const char *word, *near;
    } list[] = {
        {"duraton", "duration"},
        {"Duration", "duration"},
        {"dur", "duration"},
        {"flow", "flows"},
        {"flwos", "flows"},
        {"warm-up", "warmup"},
        {"sise", "size"},
        {"no_delay", "nodelay"},
        {"zebra", NULL},
        {"", NULL},
        {"x", NULL},
        {"responses", "response"},
        {"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL},
    };
    (void)state;
    for (size_t i = 0; i < sizeof list / sizeof *list; i++) {
        const char *near = kn_nearest(list[i].word, names, sizeof names / sizeof *names);
        if ((near == NULL) != (list[i].near == NULL) || (near && strcmp(near, list[i].near) != 0))
            fail_msg("\"%s\": %s instead of %s", list[i].word, near ? near : "none",
                     list[i].near ? list[i].near : "none");
    }
    assert_null(kn_nearest("any", NULL, 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(durations),
        cmocka_unit_test(sizes),
        cmocka_unit_test(counts),
        cmocka_unit_test(rates),
        cmocka_unit_test(lists),
        cmocka_unit_test(formats),
        cmocka_unit_test(what_is_printed_can_be_read),
        cmocka_unit_test(the_locale_changes_nothing),
        cmocka_unit_test(nearest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
