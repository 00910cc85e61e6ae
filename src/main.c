/* main - arguments, signals, exit code: the only place of knbl that prints and exits.
 *
 * `knbl agent` is carried out here, so that an agent holds no Lua at all; everything else is knbl.cli's. */
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <libgen.h>
#include <limits.h>
#include <lua.h>
#include <lauxlib.h>
#include <lualib.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <unistd.h>

#include "agent/agent.h"
#include "core/file.h"
#include "core/units.h"
#include "lab/guest.h"
#include "lua/bind.h"

enum { EXIT_SCRIPT = 1, EXIT_USAGE = 2, EXIT_NO_CLUSTER = 3, EXIT_INTERRUPTED = 130 };

int luaopen_cjson(lua_State *L);

/* ---- signals: what a handler can reach ------------------------------------------------------- */

static struct kn_interrupt interrupt = { .fd = -1 };
static lua_State *lua;

/* For a script that computes and never waits: lets Lua raise in its own time. Lua allows lua_sethook in a handler. */
static void raise_in_lua(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    if (!kn_interrupt_take(&interrupt))
        return;
    kn_lua_fail_with(L, KN_E_INTERRUPTED, "interrupted");
    lua_error(L);
}

/* The first signal asks; the second one ends, for whoever hangs. */
static void on_signal(int sig)
{
    int saved = errno;
    if (atomic_exchange(&interrupt.hit, true))
        _exit(128 + sig);
    uint64_t one = 1;
    (void)!write(interrupt.fd, &one, sizeof one);
    if (lua)
        lua_sethook(lua, raise_in_lua, LUA_MASKCOUNT, 10000000);
    errno = saved;
}

static void handle_signals(void (*handler)(int))
{
    struct sigaction act = { .sa_handler = handler, .sa_flags = SA_RESTART };
    sigemptyset(&act.sa_mask);
    sigaction(SIGINT, &act, NULL);
    sigaction(SIGTERM, &act, NULL);
    struct sigaction hup; /* a terminal that is closed; whoever asked for it to be ignored (nohup) is obeyed */
    if (!sigaction(SIGHUP, NULL, &hup) && hup.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &act, NULL);
    signal(SIGPIPE, SIG_IGN);
}

/* ---- Lua ------------------------------------------------------------------------------------- */

/* Templates for the modules on disk: KNBL_LUA_PATH, then lua/ beside the binary. */
static void push_disk_path(lua_State *L)
{
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    const char *own = getenv("KNBL_LUA_PATH");
    lua_pushstring(L, own && *own ? own : "");
    if (n <= 0)
        return;
    exe[n] = 0;
    const char *dir = dirname(exe);
    lua_pushfstring(L, "%s%s/lua/?.lua;%s/lua/?/init.lua", own && *own ? ";" : "", dir, dir);
    lua_concat(L, 2);
}

/* An error that is a table keeps its code; text gets the traceback. */
static int on_error(lua_State *L)
{
    if (lua_type(L, 1) != LUA_TSTRING)
        return 1;
    luaL_traceback(L, L, lua_tostring(L, 1), 1);
    return 1;
}

static int start(lua_State *L)
{
    char **argv = lua_touserdata(L, 1);
    luaL_openlibs(L);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_PRELOAD_TABLE);
    lua_pushcfunction(L, luaopen_cjson);
    lua_setfield(L, -2, "cjson");
    kn_lua_set_interrupt(L, &interrupt);
    push_disk_path(L);
    kn_lua_searchers(L, lua_tostring(L, -1));
    lua_getglobal(L, "require");
    lua_pushliteral(L, "knbl.cli");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "main");
    lua_newtable(L);
    for (int i = 0; argv[i]; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    lua_call(L, 1, 1);
    return 1;
}

/* What knbl.cli let through. */
static int report(lua_State *L)
{
    int code = EXIT_SCRIPT;
    if (lua_istable(L, -1)) {
        lua_getfield(L, -1, "code");
        const char *name = lua_tostring(L, -1);
        code = name && strcmp(name, "interrupted") == 0 ? EXIT_INTERRUPTED : EXIT_SCRIPT;
        lua_pop(L, 1);
    }
    const char *message = luaL_tolstring(L, -1, NULL);
    fprintf(stderr, "knbl: %s\n", message);
    return code;
}

static int run_lua(char **argv)
{
    lua_State *L = luaL_newstate();
    if (!L) {
        fputs("knbl: out of memory\n", stderr);
        return EXIT_SCRIPT;
    }
    lua = L;
    handle_signals(on_signal);
    lua_pushcfunction(L, on_error);
    lua_pushcfunction(L, start);
    lua_pushlightuserdata(L, argv);
    int code = lua_pcall(L, 1, 1, 1) == LUA_OK ? (int)lua_tointeger(L, -1) : report(L);
    lua = NULL;
    lua_close(L);
    return code;
}

/* ---- knbl agent ------------------------------------------------------------------------------ */

static const char agent_help[] =
    "usage: knbl agent [--listen [ADDRESS]:PORT] --token-file FILE [OPTIONS]\n"
    "Answers measurements through one port, TCP and UDP, until SIGTERM.\n\n"
    "  --listen [ADDRESS]:PORT  where to listen (:7099, which is every address; port 0 picks one)\n"
    "  --token-file FILE        the secret that whoever measures must know, at least 16 characters; or KNBL_TOKEN\n"
    "  --unix PATH              control by a Unix socket besides (@NAME is abstract)\n"
    "  --name NAME              how results name this agent (the host's name)\n"
    "  --node NAME              and the machine that it is on (the host's name)\n"
    "  --max-duration TIME      the longest run that it serves (1h)\n"
    "  --max-runs N             how many runs at once (64)\n";

static const struct option agent_options[] = {
    { "listen", required_argument, NULL, 'l' },
    { "token-file", required_argument, NULL, 't' },
    { "unix", required_argument, NULL, 'u' },
    { "name", required_argument, NULL, 'n' },
    { "node", required_argument, NULL, 'N' },
    { "max-duration", required_argument, NULL, 'd' },
    { "max-runs", required_argument, NULL, 'r' },
    { "help", no_argument, NULL, 'h' },
    { NULL, 0, NULL, 0 },
};

struct agent_asked { struct kn_agent_config config; const char *token_file; bool help; };

static struct kn_agent *agent;

static void stop_agent(int sig)
{
    (void)sig;
    kn_agent_stop(agent);
}

static int unknown_option(const char *word, struct kn_error *err)
{
    const char *names[sizeof agent_options / sizeof *agent_options];
    size_t n = 0;
    for (; agent_options[n].name; n++)
        names[n] = agent_options[n].name;
    const char *near = strncmp(word, "--", 2) == 0 ? kn_nearest(word + 2, names, n) : NULL;
    if (near)
        return kn_fail(err, KN_E_ARGUMENT, "there is no option %s; did you mean --%s?", word, near);
    return kn_fail(err, KN_E_ARGUMENT, "there is no option %s", word);
}

static int take_name(char *into, size_t room, const char *name, struct kn_error *err)
{
    if (strlen(name) >= room)
        return kn_fail(err, KN_E_ARGUMENT, "a name of more than %zu characters", room - 1);
    memcpy(into, name, strlen(name) + 1);
    return 0;
}

static int take_agent_option(int option, const char *word, struct agent_asked *asked, struct kn_error *err)
{
    struct kn_agent_config *c = &asked->config;
    uint64_t n = 0;
    switch (option) {
    case 'l': return kn_agent_listen(optarg, &c->listen, err);
    case 't': asked->token_file = optarg; return 0;
    case 'u': c->unix_path = optarg; return 0;
    case 'n': return take_name(c->me.name, sizeof c->me.name, optarg, err);
    case 'N': return take_name(c->me.node, sizeof c->me.node, optarg, err);
    case 'd': return kn_duration_parse(optarg, &c->max_duration_ns, err);
    case 'r':
        if (kn_count_parse(optarg, &n, err) < 0)
            return -1;
        c->max_runs = (unsigned)n;
        return n >= 1 && n <= 100000 ? 0 : kn_fail(err, KN_E_ARGUMENT, "--max-runs goes from 1 to 100000");
    case 'h': asked->help = true; return 0;
    case ':': return kn_fail(err, KN_E_ARGUMENT, "%s wants a value", word);
    default: return unknown_option(word, err);
    }
}

static int take_agent_options(int argc, char **argv, struct agent_asked *asked, struct kn_error *err)
{
    kn_agent_defaults(&asked->config);
    int option = 0, rc = kn_agent_listen(":7099", &asked->config.listen, err);
    while (rc == 0 && !asked->help && (option = getopt_long(argc, argv, ":", agent_options, NULL)) != -1)
        rc = take_agent_option(option, argv[optind - 1], asked, err);
    if (rc == 0 && option == -1 && optind < argc)
        rc = kn_fail(err, KN_E_ARGUMENT, "'%s' is too much: knbl agent takes options only", argv[optind]);
    return rc;
}

/* The first line without the blanks at its end, as editors and echo leave them. free() it. */
static char *agent_token(const char *file, struct kn_error *err)
{
    const char *told = getenv("KNBL_TOKEN");
    char *token = file ? kn_read_file(file, 4096, err) : strdup(told ? told : "");
    if (!token)
        return NULL;
    size_t n = strcspn(token, "\r\n");
    while (n && (token[n - 1] == ' ' || token[n - 1] == '\t'))
        n--;
    token[n] = '\0';
    for (n = 0; (unsigned char)token[n] >= ' ' && token[n] != 0x7f; n++) {}
    if (n >= KN_TOKEN_LEAST && !token[n])
        return token;
    if (!file && !*token)
        kn_fail(err, KN_E_ARGUMENT, "an agent needs a secret: --token-file FILE, or KNBL_TOKEN");
    else if (token[n])
        kn_fail(err, KN_E_ARGUMENT, "the token in %s is no text: it holds other characters", file ? file : "KNBL_TOKEN");
    else
        kn_fail(err, KN_E_ARGUMENT, "the token in %s has %zu characters; at least %d are wanted",
                file ? file : "KNBL_TOKEN", strlen(token), KN_TOKEN_LEAST);
    free(token);
    return NULL;
}

static int serve(const struct kn_agent_config *config, struct kn_error *err)
{
    agent = kn_agent_new(config, err);
    if (!agent)
        return -1;
    handle_signals(stop_agent);
    if (getpid() == 1)
        signal(SIGCHLD, SIG_IGN); /* a container's first process is everyone's parent: the kernel reaps for it */
    char host[KN_ADDR_TEXT_MAX];
    kn_addr_host(&config->listen, host, sizeof host);
    const char *path = config->unix_path;
    fprintf(stderr, strchr(host, ':') ? "listening on [%s]:%u%s%s\n" : "listening on %s:%u%s%s\n", host,
            kn_agent_port(agent), path ? " and " : "", path ? path : "");
    kn_agent_wait(agent);
    handle_signals(SIG_IGN);
    kn_agent_free(agent);
    return 0;
}

static int run_agent(int argc, char **argv)
{
    struct agent_asked asked = { 0 };
    struct kn_error err = { 0 };
    char *token = NULL;
    int rc = take_agent_options(argc, argv, &asked, &err);
    if (rc == 0 && asked.help)
        return fputs(agent_help, stdout), 0;
    if (rc == 0 && !(token = agent_token(asked.token_file, &err)))
        rc = -1;
    asked.config.token = token;
    if (rc == 0)
        rc = serve(&asked.config, &err);
    free(token);
    if (rc == 0)
        return 0;
    fprintf(stderr, "knbl agent: %s\n", err.message);
    return token ? EXIT_NO_CLUSTER : EXIT_USAGE;
}

/* The soft limit is a thousand on most machines, kept low for select(), which nothing here uses; flows need one each. */
static void raise_descriptor_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
}

/* Whoever read standard output through a pipe had seen enough, and knows. */
static bool reader_left(void)
{
    struct pollfd out = { .fd = STDOUT_FILENO, .events = POLLOUT };
    return poll(&out, 1, 0) > 0 && (out.revents & POLLERR);
}

int main(int argc, char **argv)
{
    raise_descriptor_limit();
    if (argc > 1 && strcmp(argv[1], "agent") == 0)
        return run_agent(argc - 1, argv + 1);
    if (argc > 1 && strcmp(argv[1], GUEST_WORD) == 0 && getpid() == 1)
        return kn_guest_main();
    interrupt.fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (interrupt.fd < 0) {
        fprintf(stderr, "knbl: eventfd: %s\n", strerror(errno));
        return EXIT_SCRIPT;
    }
    int code = run_lua(argv);
    bool flushed = fflush(stdout) == 0;
    const char *why = flushed ? "No space left on device, most likely" : strerror(errno); /* what failed before leaves no errno */
    if ((!flushed || ferror(stdout)) && code == 0) {
        code = EXIT_SCRIPT;
        if (!reader_left())
            fprintf(stderr, "knbl: standard output: %s: not all was written\n", why);
    }
    return code;
}
