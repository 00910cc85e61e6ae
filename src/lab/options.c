#include "lab/keeper.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "core/file.h"
#include "core/units.h"

static bool fits(const json_t *value, enum kn_lab_kind kind)
{
    switch (kind) {
    case LAB_TEXT: return json_is_string(value);
    case LAB_NUMBER: return json_is_number(value);
    case LAB_BOOL: return json_is_boolean(value);
    case LAB_LIST: return json_is_array(value);
    case LAB_OBJECT: return json_is_object(value);
    case LAB_QUANTITY: return json_is_number(value) || json_is_string(value);
    }
    return false;
}

int kn_lab_suggest(struct kn_error *err, const char *near)
{
    size_t used = strlen(err->message);
    if (near)
        snprintf(err->message + used, sizeof err->message - used, "; did you mean '%s'?", near);
    return -1;
}

static int unknown(const char *key, const char *what, const struct kn_lab_field *fields, size_t n, struct kn_error *err)
{
    const char *names[32];
    for (size_t i = 0; i < n && i < 32; i++)
        names[i] = fields[i].name;
    kn_fail(err, KN_E_ARGUMENT, "unknown option '%.60s' for %s", key, what);
    return kn_lab_suggest(err, kn_nearest(key, names, n < 32 ? n : 32));
}

/* Checks that every key is known and of its kind; null means missing. */
int kn_lab_check(const json_t *object, const char *what, const struct kn_lab_field *fields, size_t n,
                 struct kn_error *err)
{
    static const char *const kinds[] = {"a string", "a number", "true or false", "a list", "a number or a string",
                                        "an object"};
    const char *key;
    json_t *value;
    if (!json_is_object(object))
        return kn_fail(err, KN_E_ARGUMENT, "%s must be an object", what);
    json_object_foreach((json_t *)(uintptr_t)object, key, value)
    {
        size_t i = 0;
        while (i < n && strcmp(fields[i].name, key) != 0)
            i++;
        if (i == n)
            return unknown(key, what, fields, n, err);
        if (!json_is_null(value) && !fits(value, fields[i].kind))
            return kn_fail(err, KN_E_ARGUMENT, "%s of %s must be %s", key, what, kinds[fields[i].kind]);
    }
    return 0;
}

/* Lua has integers and floats: 3.0 counts as 3. */
int kn_lab_number(const json_t *object, const char *key, long long low, long long high, long long missing,
                  long long *out, struct kn_error *err)
{
    const json_t *value = json_object_get(object, key);
    if (!value || json_is_null(value)) {
        *out = missing;
        return 0;
    }
    double number = json_number_value(value);
    if (!json_is_number(value))
        return kn_fail(err, KN_E_ARGUMENT, "%s must be a whole number from %lld to %lld", key, low, high);
    if (number < (double)low || number > (double)high || number != (double)(long long)number)
        return kn_fail(err, KN_E_ARGUMENT, "%s must be a whole number from %lld to %lld, got %.15g", key, low, high,
                       number);
    *out = (long long)number;
    return 0;
}

/* A DNS label, as in Kubernetes. "keeper" is the name of the keeper's own cgroup. */
int kn_lab_name_check(const char *name, struct kn_error *err)
{
    size_t n = strlen(name);
    if (strcmp(name, LAB_KEEPER_CGROUP) == 0 || strcmp(name, "localhost") == 0)
        return kn_fail(err, KN_E_ARGUMENT, "the name '%s' is reserved in a lab", name);
    bool ok = n > 0 && n <= LAB_NAME_MAX && name[0] != '-' && name[n - 1] != '-';
    for (size_t i = 0; ok && i < n; i++)
        ok = (name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') || name[i] == '-';
    if (ok)
        return 0;
    return kn_fail(err, KN_E_ARGUMENT,
                   "invalid name '%.60s': a name has 1 to %d characters of a-z, 0-9 and '-', and no '-' at either end",
                   name, LAB_NAME_MAX);
}

int kn_lab_choice(const json_t *object, const char *key, const char *const *choices, size_t n, size_t *out,
                  struct kn_error *err)
{
    const char *text = json_string_value(json_object_get(object, key));
    char all[128] = "";
    if (!text)
        return 0;
    for (size_t i = 0; i < n; i++) {
        if (strcmp(choices[i], text) == 0) {
            *out = i;
            return 0;
        }
        snprintf(all + strlen(all), sizeof all - strlen(all), "%s%s",
                 i == 0      ? ""
                 : i + 1 < n ? ", "
                             : " or ",
                 choices[i]);
    }
    kn_fail(err, KN_E_ARGUMENT, "%s must be %s, got '%.40s'", key, all, text);
    return kn_lab_suggest(err, kn_nearest(text, choices, n));
}

static int read_families(const json_t *json, struct kn_lab_options *out, struct kn_error *err)
{
    static const char *const families[] = {"dual", "4", "6"};
    const json_t *value = json_object_get(json, "families");
    bool able = access("/proc/net/if_inet6", F_OK) == 0;
    size_t which = able ? 0 : 1;
    if (json_is_number(value))
        which = json_number_value(value) == 4.0 ? 1 : json_number_value(value) == 6.0 ? 2 : 3;
    else if (kn_lab_choice(json, "families", families, 3, &which, err))
        return -1;
    if (which > 2)
        return kn_fail(err, KN_E_ARGUMENT, "families must be dual, 4 or 6, got %g", json_number_value(value));
    out->v4 = which != 2;
    out->v6 = which != 1;
    return out->v6 && !able ? kn_fail(err, KN_E_UNSUPPORTED, "this kernel has no IPv6: use families = 4") : 0;
}

static int read_mtu(const json_t *json, struct kn_lab_options *out, struct kn_error *err)
{
    long long low = out->v6 ? 1280 : 576, mtu;
    if (out->vxlan)
        low += out->v4 ? 50 : 70; /* its pods still need the minimum */
    double asked = json_number_value(json_object_get(json, "mtu"));
    if (out->v6 && asked >= 576 && asked < (double)low)
        return kn_fail(err, KN_E_ARGUMENT, "mtu must be at least %lld with IPv6, got %g; with families = 4 at least %d",
                       low, asked, out->vxlan ? 626 : 576);
    if (kn_lab_number(json, "mtu", low, 65535, 1500, &mtu, err))
        return -1;
    out->mtu = (unsigned)mtu;
    return 0;
}

static int read_token(const json_t *json, struct kn_lab_options *out, struct kn_error *err)
{
    const char *token = json_string_value(json_object_get(json, "token"));
    char made[KN_TOKEN_SIZE];
    if (token && (strlen(token) < KN_TOKEN_LEAST || strlen(token) >= sizeof out->token))
        return kn_fail(err, KN_E_ARGUMENT, "token must have %d to %zu characters, got %zu", KN_TOKEN_LEAST,
                       sizeof out->token - 1, strlen(token));
    if (!token)
        kn_token_make(made);
    snprintf(out->token, sizeof out->token, "%s", token ? token : made);
    return 0;
}

int kn_lab_options_read(const json_t *json, struct kn_lab_options *out, struct kn_error *err)
{
    static const struct kn_lab_field fields[] = {
        {"mtu", LAB_NUMBER}, {"overlay", LAB_TEXT}, {"families", LAB_QUANTITY}, {"services", LAB_NUMBER},
        {"mode", LAB_TEXT},  {"port", LAB_NUMBER},  {"token", LAB_TEXT}};
    static const char *const overlays[] = {"none", "vxlan"}, *const modes[] = {"maps", "chains"};
    size_t overlay = 0, mode = 0;
    long long services, port;
    *out = (struct kn_lab_options){.mtu = 0};
    if (json && kn_lab_check(json, "the lab", fields, sizeof fields / sizeof *fields, err))
        return -1;
    if (kn_lab_choice(json, "overlay", overlays, 2, &overlay, err) || kn_lab_choice(json, "mode", modes, 2, &mode, err))
        return -1;
    out->vxlan = overlay == 1;
    out->chains = mode == 1;
    if (read_families(json, out, err) || read_mtu(json, out, err) || read_token(json, out, err))
        return -1;
    if (kn_lab_number(json, "services", 0, LAB_IDLE_MAX, 0, &services, err))
        return -1;
    if (kn_lab_number(json, "port", 1, 65535, 7099, &port, err))
        return -1;
    out->services = (unsigned)services;
    out->port = (uint16_t)port;
    return 0;
}

unsigned kn_lab_pod_mtu(const struct kn_lab_options *options)
{
    return options->mtu - (!options->vxlan ? 0 : options->v4 ? 50 : 70);
}
