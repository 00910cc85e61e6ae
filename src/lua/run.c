/* lua/run - a measurement from this process. */
#include <string.h>

#include "core/clock.h"
#include "engines/engines.h"
#include "net/addr.h"
#include "run/run.h"
#include "lua/bind.h"

#define TYPE "knbl.run"
#define SLICE_NS (20 * KN_NS_PER_MS) /* between checks of the interrupt: a run has no descriptor to poll */

#define STOP_NS (30 * KN_NS_PER_S) /* for a stopped run to end, with its servers' reports */

struct run {
    struct kn_run *run;
    bool stopped;
};

static struct run *check_open(lua_State *L)
{
    struct run *r = luaL_checkudata(L, 1, TYPE);
    luaL_argcheck(L, r->run, 1, "the run is closed");
    return r;
}

static struct kn_run *check_run(lua_State *L)
{
    return check_open(L)->run;
}

static int run_close(lua_State *L)
{
    struct run *r = luaL_checkudata(L, 1, TYPE);
    struct kn_run *run = r->run;
    r->run = NULL;
    if (run)
        kn_run_free(run);
    return 0;
}

static int run_wait(lua_State *L)
{
    struct kn_run *run = check_run(L);
    uint64_t until_ns = lua_isnoneornil(L, 2) ? UINT64_MAX : kn_now_ns() + kn_lua_check_seconds(L, 2);
    struct kn_interrupt *interrupt = kn_lua_interrupt(L);
    bool over = false;
    do {
        if (kn_interrupted(interrupt))
            return kn_lua_fail_with(L, KN_E_INTERRUPTED, "interrupted");
        uint64_t now_ns = kn_now_ns();
        uint64_t left_ns = until_ns > now_ns ? until_ns - now_ns : 0;
        over = kn_run_wait(run, left_ns < SLICE_NS ? left_ns : SLICE_NS);
    } while (!over && kn_now_ns() < until_ns);
    lua_pushboolean(L, over);
    return 1;
}

static const char *const phases[] = {
    [KN_PHASE_NEW] = "new",         [KN_PHASE_CONNECT] = "connect", [KN_PHASE_WARMUP] = "warmup",
    [KN_PHASE_MEASURE] = "measure", [KN_PHASE_COLLECT] = "collect", [KN_PHASE_DONE] = "done",
    [KN_PHASE_FAILED] = "failed",
};

static int run_progress(lua_State *L)
{
    struct kn_progress p;
    kn_run_progress(check_run(L), &p);
    double elapsed_s = (double)p.elapsed_ns / 1e9, total_s = (double)p.total_ns / 1e9;
    return kn_lua_push_json(L, json_pack("{s:s, s:f, s:f, s:I, s:I}", "phase", phases[p.phase], "elapsed_s", elapsed_s,
                                         "total_s", total_s, "ops", (json_int_t)p.ops, "bytes", (json_int_t)p.bytes));
}

static int run_stop(lua_State *L)
{
    struct run *r = check_open(L);
    r->stopped = true;
    kn_run_stop(r->run);
    return 0;
}

static int run_result(lua_State *L)
{
    struct run *r = check_open(L);
    if (!kn_run_wait(r->run, r->stopped ? STOP_NS : 0))
        return luaL_error(L, "the run has not ended: call wait or stop first");
    return kn_lua_push_json(L, kn_run_result(r->run));
}

static void take_target(lua_State *L, int arg, struct kn_target *target)
{
    static const char *const keys[] = {"host", "port", "token", "ca", "source", "name", "share", NULL};
    kn_lua_known_keys(L, arg, keys);
    const char *host = kn_lua_opt_text(L, arg, "host", ""), *token = kn_lua_opt_text(L, arg, "token", NULL),
               *ca = kn_lua_opt_text(L, arg, "ca", ""), *source = kn_lua_opt_text(L, arg, "source", ""),
               *name = kn_lua_opt_text(L, arg, "name", "");
    double port = kn_lua_opt_number(L, arg, "port", KN_DEFAULT_PORT);
    luaL_argcheck(L, *host && strlen(host) < sizeof target->host, arg, "host is missing or too long");
    luaL_argcheck(L, port >= 0 && port <= 65535 && port == (double)(uint16_t)port, arg,
                  "port must be a whole number from 0 to 65535");
    *target = (struct kn_target){.port = (uint16_t)port, .share = kn_lua_opt_number(L, arg, "share", 1)};
    luaL_argcheck(L, target->share > 0, arg, "share must be a positive number");
    memcpy(target->host, host, strlen(host) + 1);
    luaL_argcheck(L, strlen(ca) < sizeof target->ca, arg, "ca is too long");
    memcpy(target->ca, ca, strlen(ca) + 1);
    luaL_argcheck(L, strlen(source) < sizeof target->source, arg, "source is too long");
    memcpy(target->source, source, strlen(source) + 1);
    luaL_argcheck(L, strlen(name) < sizeof target->name, arg, "name is too long");
    memcpy(target->name, name, strlen(name) + 1);
    if (token)
        kn_wire_key(token, &target->key);
}

/* The target at `arg`, or the list of them; pushes what has the result. */
static const struct kn_target *take_targets(lua_State *L, int arg, unsigned *n)
{
    size_t listed = lua_istable(L, arg) ? lua_rawlen(L, arg) : 0;
    luaL_argcheck(L, listed <= KN_TARGETS_MAX, arg, "too many targets");
    *n = listed ? (unsigned)listed : 1;
    struct kn_target *targets = lua_newuserdatauv(L, *n * sizeof *targets, 0);
    for (unsigned i = 0; i < listed; i++) {
        lua_rawgeti(L, arg, i + 1);
        take_target(L, lua_gettop(L), &targets[i]);
        lua_pop(L, 1);
    }
    if (!listed)
        take_target(L, arg, targets);
    return targets;
}

static const luaL_Reg methods[] = {
    {"wait", run_wait}, {"progress", run_progress}, {"stop", run_stop}, {"result", run_result}, {NULL, NULL},
};

static int l_run(lua_State *L)
{
    struct kn_spec spec;
    unsigned n;
    struct kn_error err;
    json_t *asked = kn_lua_check_json(L, 1);
    const struct kn_target *targets = take_targets(L, 2, &n);
    if (kn_spec_parse(asked, &kn_engines, &spec, &err) < 0)
        return kn_lua_fail(L, &err);
    struct run *r = lua_newuserdatauv(L, sizeof *r, 0);
    *r = (struct run){0};
    kn_lua_type(L, TYPE, methods, run_close);
    lua_setmetatable(L, -2);
    if (!(r->run = kn_run_new_to(&spec, targets, n, &err)) || kn_run_start(r->run, &err) < 0)
        return kn_lua_fail(L, &err);
    return 1;
}

const luaL_Reg kn_lua_run[] = {
    {"run", l_run},
    {NULL, NULL},
};
