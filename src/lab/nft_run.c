#include "lab/keeper.h"

#include <errno.h>
#include <link.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/json.h"

/* Rules are set by the program nft. It is GPL-2, and a library of it in this process would not go together with the
 * OpenSSL that libcurl loads (docs/licenses.md). */

/* The limit for one transaction. It is one message, which must fit the socket's send buffer, 208 KiB by default, and
 * only the machine's own root may raise that (SO_SNDBUFFORCE). A byte of text becomes four to six bytes of message. */
#define TRANSACTION_TEXT (24 << 10)

/* ---- where nft is ---- */

static int find_loader(struct dl_phdr_info *info, size_t size, void *into)
{
    (void)size;
    for (size_t i = 0; i < info->dlpi_phnum; i++)
        if (info->dlpi_phdr[i].p_type == PT_INTERP)
            snprintf(into, PATH_MAX, "%s", (const char *)(info->dlpi_addr + info->dlpi_phdr[i].p_vaddr));
    return 1; /* the program itself comes first */
}

/* A release brings the loader, the libraries and nft in one folder. False if this program is not of a release. */
static bool beside(char loader[PATH_MAX], char folder[PATH_MAX], char nft[PATH_MAX + 8])
{
    *loader = '\0';
    dl_iterate_phdr(find_loader, loader);
    char *name = strrchr(loader, '/');
    if (!name || strcmp(name, "/loader") != 0)
        return false;
    snprintf(folder, PATH_MAX, "%.*s", (int)(name - loader), loader);
    snprintf(nft, PATH_MAX + 8, "%s/nft", folder);
    return access(nft, R_OK) == 0;
}

static int start(const posix_spawn_file_actions_t *files, const posix_spawnattr_t *attributes, bool json, pid_t *pid)
{
    static const char *const places[] = {"nft", "/usr/sbin/nft", "/sbin/nft"};
    char loader[PATH_MAX], folder[PATH_MAX], nft[PATH_MAX + 8];
    char *option = json ? "-j" : "-n", *environment[] = {NULL};
    if (beside(loader, folder, nft)) {
        char *argv[] = {loader, "--library-path", folder, nft, option, "-f", "-", NULL};
        return posix_spawn(pid, loader, files, attributes, argv, environment);
    }
    int failed = ENOENT;
    for (size_t i = 0; i < sizeof places / sizeof *places && failed; i++) {
        char *argv[] = {"nft", option, "-f", "-", NULL};
        failed = posix_spawnp(pid, places[i], files, attributes, argv, environment);
    }
    return failed;
}

/* ---- one transaction ---- */

/* Starts nft with these files as standard input, output and error, and with no signal blocked. Returns its exit status,
 * or -1 with errno. */
static int run_nft(int in, int out, int diagnostics, bool json)
{
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    sigset_t none;
    pid_t pid = 0;
    int status = 0;
    sigemptyset(&none);
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_adddup2(&files, in, 0);
    posix_spawn_file_actions_adddup2(&files, out, 1);
    posix_spawn_file_actions_adddup2(&files, diagnostics, 2);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    int failed = start(&files, &attributes, json, &pid);
    posix_spawn_file_actions_destroy(&files);
    posix_spawnattr_destroy(&attributes);
    if (failed)
        return errno = failed, -1;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR)
            return -1;
    return kn_exit_status(status);
}

/* All of a file, with a zero at its end; NULL without memory. */
static char *contents(int fd)
{
    struct stat st;
    size_t size = fstat(fd, &st) == 0 ? (size_t)st.st_size : 0;
    char *text = calloc(1, size + 1);
    ssize_t n = text ? pread(fd, text, size, 0) : 0;
    if (text)
        text[n > 0 ? n : 0] = '\0';
    return text;
}

static int file_with(const char *text)
{
    size_t length = strlen(text);
    int fd = memfd_create("knbl-nft", MFD_CLOEXEC);
    if (fd >= 0 && (write(fd, text, length) != (ssize_t)length || lseek(fd, 0, SEEK_SET) < 0)) {
        close(fd);
        return -1;
    }
    return fd;
}

static int failure(int status, int diagnostics, struct kn_error *err)
{
    if (status < 0 && errno == ENOENT)
        return kn_fail(err, KN_E_SYSTEM, "cannot set up nftables: the program nft is not installed (package nftables)");
    if (status < 0)
        return kn_fail_errno(err, "cannot set up nftables: cannot run nft");
    char *said = contents(diagnostics);
    kn_fail(err, KN_E_SYSTEM, "cannot set up nftables: nft: %.300s", said && *said ? said : "no reason given");
    free(said);
    return -1;
}

static int run(const char *commands, char **output, struct kn_error *err)
{
    int in = file_with(commands), out = file_with(""), diagnostics = file_with(""), bad;
    if (in < 0 || out < 0 || diagnostics < 0) {
        bad = kn_fail_errno(err, "cannot set up nftables");
    } else {
        int status = run_nft(in, out, diagnostics, output != NULL);
        bad = status ? failure(status, diagnostics, err) : 0;
        if (!bad && output && !(*output = contents(out)))
            bad = kn_fail_memory(err);
    }
    for (size_t i = 0; i < 3; i++)
        if ((const int[]){in, out, diagnostics}[i] >= 0)
            close((const int[]){in, out, diagnostics}[i]);
    return bad;
}

/* The length of the lines that fit in one transaction; at least one line. */
static size_t transaction(const char *commands)
{
    size_t length = strlen(commands), end = 0;
    if (length <= TRANSACTION_TEXT)
        return length;
    for (const char *line; (line = strchr(commands + end, '\n'));) {
        size_t next = (size_t)(line - commands) + 1;
        if (end && next > TRANSACTION_TEXT)
            return end;
        end = next;
    }
    return end ? end : length;
}

int kn_nft_run(const struct kn_lab_node *node, struct kn_text *rules, struct kn_error *err)
{
    int bad = rules->failed ? kn_fail_memory(err) : rules->used ? kn_netns_enter(node->netns, err) : 0;
    const char *commands = rules->used ? rules->data : "";
    for (size_t length; *commands && !bad; commands += length) {
        length = transaction(commands);
        char *part = strndup(commands, length);
        bad = part ? run(part, NULL, err) : kn_fail_memory(err);
        free(part);
    }
    free(rules->data);
    return bad ? -1 : 0;
}

int kn_nft_ask(const char *command, json_t **answer, struct kn_error *err)
{
    char *output = NULL;
    if (run(command, &output, err))
        return -1;
    *answer = kn_json_load(output, strlen(output), 0, NULL);
    free(output);
    return 0;
}
