/* Memory runs out while the lab's options are checked. The lab itself is built by processes of its own, whose end is an
 * error of the lab (lab_test.c). */
#include "../core/starved.h"

#include "lab/lab.h"

static void options(void **state)
{
    static const char text[] =
        "{\"mtu\":1400,\"overlay\":\"vxlan\",\"families\":\"dual\",\"services\":3,\"mode\":\"chains\",\"port\":7099}";
    json_t *json = json_loads(text, 0, NULL);
    (void)state;
    STARVED(n)
    {
        struct kn_error err = {0};
        starved_begin(n);
        int failed = kn_lab_options_check(json, &err);
        starved_end();
        starved_expect(!failed, &err);
    }
    json_decref(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(options)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
