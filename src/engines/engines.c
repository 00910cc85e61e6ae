#include "engines/engines.h"

#define KN_TEST(name) &kn_##name,
static const struct kn_test *const tests[] = {
#include "engines/registry.h"
    NULL,
};
#undef KN_TEST

const struct kn_registry kn_engines = {tests};
