/* spawn [-c CPU] [-s PID]... [-t SECONDS] COMMAND [ARG...]
 *
 * Runs a command, keeps what it prints, and writes one JSON object: its exit code, output, wall time and CPU time, and the CPU
 * time that the processes named by -s (servers, with the children that they reaped) used meanwhile. -c pins the command. */
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

/* user + system of one process and of the children that it has waited for */
static double process_cpu_s(int pid)
{
    char path[64], line[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *f = fopen(path, "r");
    if (!f)
        return 0;
    size_t n = fread(line, 1, sizeof line - 1, f);
    fclose(f);
    line[n] = 0;
    const char *p = strrchr(line, ')');
    long ticks[4] = {0};
    if (!p || sscanf(p + 2, "%*c %*d %*d %*d %*d %*d %*u %*u %*u %*u %*u %ld %ld %ld %ld", &ticks[0], &ticks[1], &ticks[2],
                     &ticks[3]) != 4)
        return 0;
    return (double)(ticks[0] + ticks[1] + ticks[2] + ticks[3]) / (double)sysconf(_SC_CLK_TCK);
}

/* The same with the children that it has not waited for yet, those that ended among them: servers fork. */
static double server_cpu_s(int pid)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task/%d/children", pid, pid);
    double sum = process_cpu_s(pid);
    FILE *f = fopen(path, "r");
    for (int child; f && fscanf(f, "%d", &child) == 1;)
        sum += server_cpu_s(child);
    if (f)
        fclose(f);
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
    double server_from = 0, server_to = 0, from = now_s();
    for (int i = 0; i < n_servers; i++)
        server_from += server_cpu_s(servers[i]);
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
        if (left <= 0 || poll(&p, 1, (int)(left * 1000) + 1) <= 0) {
            kill(-pid, SIGKILL); /* an alarm in the child would be the tool's own */
            break;
        }
        n = read(pipes[0], text + size, sizeof text - size);
        size += n > 0 ? (size_t)n : 0;
    }
    int status = 0;
    struct rusage used;
    memset(&used, 0, sizeof used);
    wait4(pid, &status, 0, &used);
    double wall = now_s() - from;
    usleep(20000); /* for the server to be through with this client too */
    for (int i = 0; i < n_servers; i++)
        server_to += server_cpu_s(servers[i]);
    double cpu_s = (double)used.ru_utime.tv_sec + (double)used.ru_utime.tv_usec / 1e6 + (double)used.ru_stime.tv_sec +
                   (double)used.ru_stime.tv_usec / 1e6;
    printf("{\"exit\":%d,\"wall_s\":%.6f,\"client_cpu_s\":%.6f,\"server_cpu_s\":%.6f,\"output\":",
           WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), wall, cpu_s, server_to - server_from);
    print_text(text, size);
    puts("}");
    return 0;
}
