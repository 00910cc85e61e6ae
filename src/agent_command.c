#include "agent_command.h"

#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "agent/agent.h"
#include "core/file.h"
#include "core/units.h"
#include "process.h"

static const char agent_help[] =
    "usage: knbl agent [--listen [ADDRESS]:PORT] --token-file FILE [OPTIONS]\n"
    "Serves measurements on one port, TCP and UDP, until SIGTERM.\n\n"
    "  --listen [ADDRESS]:PORT  listen on this address and port (default :7099, all addresses; port 0: a free port)\n"
    "  --token-file FILE        read the token, at least 16 characters, from FILE; - means the first line of standard\n"
    "                           input (default: the variable KNBL_TOKEN)\n"
    "  --lifeline TIME          exit when standard input ends or has no data for TIME (default: never)\n"
    "  --unix PATH              also accept control on a Unix socket; @NAME is an abstract socket\n"
    "  --name NAME              name of this agent in results (default: the host name)\n"
    "  --node NAME              name of this machine in results (default: the host name)\n"
    "  --max-duration TIME      refuse longer runs (default: 1h)\n"
    "  --max-bytes SIZE         limit the bytes of each run and flow, for example to 10G (default: no limit)\n"
    "  --max-runs N             limit the number of runs at once (default: 64)\n"
    "  --idle TIME              exit after TIME without a client (default: never)\n"
    "  --help                   display this help and exit\n";

static const struct option agent_options[] = {
    {"listen", required_argument, NULL, 'l'},
    {"token-file", required_argument, NULL, 't'},
    {"lifeline", required_argument, NULL, 'L'},
    {"unix", required_argument, NULL, 'u'},
    {"name", required_argument, NULL, 'n'},
    {"node", required_argument, NULL, 'N'},
    {"max-duration", required_argument, NULL, 'd'},
    {"max-bytes", required_argument, NULL, 'b'},
    {"max-runs", required_argument, NULL, 'r'},
    {"idle", required_argument, NULL, 'i'},
    {"help", no_argument, NULL, 'h'},
    {NULL, 0, NULL, 0},
};

struct agent_asked {
    struct kn_agent_config config;
    const char *token_file;
    uint64_t lifeline_ns; /* 0 means none */
    bool help;
};

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
        return kn_fail(err, KN_E_ARGUMENT, "unknown option %s; did you mean --%s?", word, near);
    return kn_fail(err, KN_E_ARGUMENT, "unknown option %s", word);
}

static int take_name(char *into, size_t room, const char *name, struct kn_error *err)
{
    if (strlen(name) >= room)
        return kn_fail(err, KN_E_ARGUMENT, "a name must have at most %zu characters, got %zu", room - 1, strlen(name));
    memcpy(into, name, strlen(name) + 1);
    return 0;
}

/* A time or a size; 0 is not allowed, because it means the default. */
static int take_limit(const char *name, uint64_t *into, int (*parse)(const char *, uint64_t *, struct kn_error *),
                      struct kn_error *err)
{
    if (parse(optarg, into, err) < 0)
        return -1;
    return *into ? 0 : kn_fail(err, KN_E_ARGUMENT, "--%s must be more than 0, got %s", name, optarg);
}

static int take_runs(unsigned *into, struct kn_error *err)
{
    uint64_t n;
    if (kn_count_parse(optarg, &n, err) < 0)
        return -1;
    if (n < 1 || n > 100000)
        return kn_fail(err, KN_E_ARGUMENT, "--max-runs must be from 1 to 100000, got %s", optarg);
    *into = (unsigned)n;
    return 0;
}

static int take_agent_option(int option, const char *word, struct agent_asked *asked, struct kn_error *err)
{
    struct kn_agent_config *c = &asked->config;
    switch (option) {
    case 'l': return kn_agent_listen(optarg, &c->listen, err);
    case 't': asked->token_file = optarg; return 0;
    case 'L': return kn_duration_parse(optarg, &asked->lifeline_ns, err);
    case 'u': c->unix_path = optarg; return 0;
    case 'n': return take_name(c->me.name, sizeof c->me.name, optarg, err);
    case 'N': return take_name(c->me.node, sizeof c->me.node, optarg, err);
    case 'd': return take_limit("max-duration", &c->max_duration_ns, kn_duration_parse, err);
    case 'b': return take_limit("max-bytes", &c->max_bytes, kn_size_parse, err);
    case 'r': return take_runs(&c->max_runs, err);
    case 'i': return take_limit("idle", &c->idle_ns, kn_duration_parse, err);
    case 'h': asked->help = true; return 0;
    case ':': return kn_fail(err, KN_E_ARGUMENT, "option %s requires a value", word);
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
        rc = kn_fail(err, KN_E_ARGUMENT, "unexpected argument '%s'", argv[optind]);
    return rc;
}

/* Reads one byte at a time: the rest of the input belongs to the lifeline. */
static char *read_first_line(void)
{
    enum { ROOM = 4096 };
    char *line = calloc(1, ROOM);
    for (size_t n = 0; line && n + 1 < ROOM && read(STDIN_FILENO, line + n, 1) == 1 && line[n] != '\n'; n++) {
    }
    return line;
}

/* The first line without trailing spaces. The caller frees it. */
static char *agent_token(const char *file, struct kn_error *err)
{
    const char *told = getenv("KNBL_TOKEN");
    char *token = file && strcmp(file, "-") == 0 ? read_first_line()
                  : file                         ? kn_read_file(file, 4096, err)
                                                 : strdup(told ? told : "");
    if (!token)
        return NULL;
    size_t n = strcspn(token, "\r\n");
    while (n && (token[n - 1] == ' ' || token[n - 1] == '\t'))
        n--;
    token[n] = '\0';
    for (n = 0; (unsigned char)token[n] >= ' ' && token[n] != 0x7f; n++) {
    }
    if (n >= KN_TOKEN_LEAST && !token[n])
        return token;
    if (!file && !*token)
        kn_fail(err, KN_E_ARGUMENT, "a token is required: --token-file FILE, or KNBL_TOKEN");
    else if (token[n])
        kn_fail(err, KN_E_ARGUMENT, "the token in %s contains non-printable characters", file ? file : "KNBL_TOKEN");
    else
        kn_fail(err, KN_E_ARGUMENT, "the token in %s must have at least %d characters, got %zu",
                file ? file : "KNBL_TOKEN", KN_TOKEN_LEAST, strlen(token));
    free(token);
    return NULL;
}

#define END_S 5

static void give_up(int sig)
{
    static const char message[] = "knbl agent: threads did not end within 5 s; exiting\n";
    (void)sig;
    (void)!write(STDERR_FILENO, message, sizeof message - 1);
    _exit(EXIT_FAILURE);
}

/* Exits even if a thread does not end, so that its pod can end. */
static void end_in_time(void)
{
    kn_process_signals(SIG_IGN);
    signal(SIGALRM, give_up);
    alarm(END_S);
    kn_agent_free(agent);
    alarm(0);
}

/* Ends the agent with the ssh session that started it. Standard input ends when the session is closed, and has no data
 * for a while when the peer disappears. */
static void *watch_lifeline(void *silence_ms)
{
    struct pollfd in = {.fd = STDIN_FILENO, .events = POLLIN};
    char buffer[256];
    for (;;) {
        int ready = poll(&in, 1, *(int *)silence_ms);
        if (ready < 0 && errno == EINTR)
            continue;
        ssize_t n = ready > 0 ? read(STDIN_FILENO, buffer, sizeof buffer) : 0;
        if (n == 0 || (n < 0 && errno != EINTR))
            break;
    }
    kn_agent_stop(agent);
    return NULL;
}

struct lifeline {
    int silence_ms; /* 0 means none */
    pthread_t thread;
};

static int hold_lifeline(struct lifeline *line, uint64_t silence_ns, struct kn_error *err)
{
    line->silence_ms = silence_ns / 1000000 < INT_MAX ? (int)(silence_ns / 1000000) : INT_MAX;
    int rc = line->silence_ms ? pthread_create(&line->thread, NULL, watch_lifeline, &line->silence_ms) : 0;
    return rc ? kn_fail(err, KN_E_SYSTEM, "pthread_create: %s", strerror(rc)) : 0;
}

static void drop_lifeline(struct lifeline *line)
{
    if (!line->silence_ms)
        return;
    pthread_cancel(line->thread);
    pthread_join(line->thread, NULL);
}

static int serve(const struct kn_agent_config *config, uint64_t lifeline_ns, struct kn_error *err)
{
    agent = kn_agent_new(config, err);
    if (!agent)
        return -1;
    struct lifeline line = {0};
    if (hold_lifeline(&line, lifeline_ns, err) < 0) {
        kn_agent_free(agent);
        return -1;
    }
    kn_process_signals(stop_agent);
    if (getpid() == 1)
        signal(SIGCHLD, SIG_IGN); /* process 1 of a container inherits orphans; the kernel reaps them */
    char host[KN_ADDR_TEXT_MAX];
    kn_addr_host(&config->listen, host, sizeof host);
    const char *path = config->unix_path;
    fprintf(stderr, strchr(host, ':') ? "listening on [%s]:%u%s%s\n" : "listening on %s:%u%s%s\n", host,
            kn_agent_port(agent), path ? " and " : "", path ? path : "");
    kn_agent_wait(agent);
    if (kn_agent_was_idle(agent))
        fprintf(stderr, "knbl agent: exiting: idle for %.6g s\n", (double)config->idle_ns / 1e9);
    drop_lifeline(&line);
    end_in_time();
    return 0;
}

int kn_agent_command(int argc, char **argv)
{
    struct agent_asked asked = {0};
    struct kn_error err = {0};
    char *token = NULL;
    int rc = take_agent_options(argc, argv, &asked, &err);
    if (rc == 0 && asked.help)
        return fputs(agent_help, stdout), 0;
    if (rc == 0 && !(token = agent_token(asked.token_file, &err)))
        rc = -1;
    asked.config.token = token;
    if (rc == 0)
        rc = serve(&asked.config, asked.lifeline_ns, &err);
    free(token);
    if (rc == 0)
        return 0;
    fprintf(stderr, "knbl agent: %s\n", err.message);
    return token ? EXIT_NO_CLUSTER : EXIT_USAGE;
}
