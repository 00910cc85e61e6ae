/* spawn [-c CPU] [-s PID]... [-t SECONDS] COMMAND [ARG...]
 *
 * Runs a command and writes one JSON object: its exit code, output, wall time and CPU time, and the CPU time that the
 * processes of -s (servers, with all their children) used meanwhile. -c pins the command to a CPU.
 */
#include <errno.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ---- servers: some fork for each client and do not collect its CPU time, so all descendants are sampled ---- */

#define FAMILY_MAX 256
static struct {
    int pid;
    double first_s, last_s;
} family[FAMILY_MAX];
static int family_size;

/* user and system time of one process, without its children */
static double process_cpu_s(int pid)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return -1;
    size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    line[n] = 0;
    const char *p = strrchr(line, ')');
    long user, system;
    if (!p || sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld", &user, &system) != 2)
        return -1;
    return (double)(user + system) / (double)sysconf(_SC_CLK_TCK);
}

/* Records the CPU time of a process and its descendants; for those that started later, the start value is 0. */
static void sample(int pid, int at_start)
{
    double cpu_s = process_cpu_s(pid);
    int i = 0;
    while (i < family_size && family[i].pid != pid)
        i++;
    if (cpu_s < 0 || i == FAMILY_MAX)
        return;
    if (i == family_size) {
        family[family_size++].pid = pid;
        family[i].first_s = at_start ? cpu_s : 0;
    }
    family[i].last_s = cpu_s;
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
    FILE *f = fopen(path, "r");
    for (int child; f && fscanf(f, "%d", &child) == 1;)
        sample(child, at_start);
    if (f)
        fclose(f);
}

static void sample_all(const int *servers, int n, int at_start)
{
    for (int i = 0; i < n; i++)
        sample(servers[i], at_start);
}

static double family_cpu_s(void)
{
    double sum = 0;
    for (int i = 0; i < family_size; i++)
        sum += family[i].last_s - family[i].first_s;
    return sum;
}

static void print_text(const char *s, size_t n)
{
    putchar('"');
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)s[i];
        if (c == '"' || c == '\\')
            printf("\\%c", c);
        else if (c < 0x20 || c >= 0x7f)
            printf("\\u%04x", c);
        else
            putchar(c);
    }
    putchar('"');
}

static int child(char **argv, int cpu, int out)
{
    if (cpu >= 0) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)cpu, &set);
        sched_setaffinity(0, sizeof set, &set);
    }
    dup2(out, 1);
    dup2(out, 2);
    execvp(argv[0], argv);
    dprintf(2, "%s: %s\n", argv[0], strerror(errno));
    _exit(127);
}

int main(int argc, char **argv)
{
    int servers[16], n_servers = 0, cpu = -1, option;
    unsigned limit_s = 60;
    while ((option = getopt(argc, argv, "+c:s:t:")) != -1) {
        if (option == 'c')
            cpu = atoi(optarg);
        else if (option == 's' && n_servers < 16)
            servers[n_servers++] = atoi(optarg);
        else if (option == 't')
            limit_s = (unsigned)atoi(optarg);
        else
            return 2;
    }
    int pipes[2];
    if (optind >= argc || pipe(pipes))
        return 2;
    double from = now_s();
    sample_all(servers, n_servers, 1);
    pid_t pid = fork();
    if (pid == 0) {
        close(pipes[0]);
        setpgid(0, 0);
        return child(argv + optind, cpu, pipes[1]);
    }
    close(pipes[1]);
    static char text[4 << 20];
    size_t size = 0;
    ssize_t n = 1;
    while (n > 0 && size < sizeof text) {
        double left = from + (double)limit_s - now_s();
        struct pollfd p = {.fd = pipes[0], .events = POLLIN};
        if (left <= 0) {
            kill(-pid, SIGKILL); /* the tool may use alarm() itself, so the parent enforces the timeout */
            break;
        }
        int ready = poll(&p, 1, 20);
        sample_all(servers, n_servers, 0);
        if (ready <= 0)
            continue;
        n = read(pipes[0], text + size, sizeof text - size);
        size += n > 0 ? (size_t)n : 0;
    }
    int status = 0;
    struct rusage used;
    memset(&used, 0, sizeof used);
    wait4(pid, &status, 0, &used);
    double wall = now_s() - from;
    sample_all(servers, n_servers, 0);
    double cpu_s = (double)used.ru_utime.tv_sec + (double)used.ru_utime.tv_usec / 1e6 + (double)used.ru_stime.tv_sec +
                   (double)used.ru_stime.tv_usec / 1e6;
    printf("{\"exit\":%d,\"wall_s\":%.6f,\"client_cpu_s\":%.6f,\"server_cpu_s\":%.6f,\"output\":",
           WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), wall, cpu_s, family_cpu_s());
    print_text(text, size);
    puts("}");
    return 0;
}
