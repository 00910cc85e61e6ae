#include "lab/keeper.h"

#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

/* The files in the lab's /run/knbl: the names, as /etc/hosts of every pod and node (with a line for each endpoint of a
 * headless Service), and a file for each name that tells how to enter it. /etc/hosts is one file in all mounts, so it
 * is changed in place. */

#define HOSTS LAB_RUN "/hosts"
#define RESOLVER LAB_RUN "/resolv.conf"

static void add_lines(FILE *file, const char *name, const struct kn_ip ip[2])
{
    char text[LAB_IP_TEXT];
    for (int i = 0; i < 2; i++)
        if (ip[i].family)
            fprintf(file, "%s\t%s\n", kn_ip_text(&ip[i], text, sizeof text), name);
}

static void add_service(FILE *file, const struct kn_lab_service *service)
{
    if (!service->headless)
        add_lines(file, service->name, service->ip);
    for (size_t i = 0; service->headless && i < service->n_endpoints; i++)
        add_lines(file, service->name, service->endpoints[i].ip);
}

static FILE *hosts(const char *mode)
{
    FILE *file = fopen(HOSTS, mode);
    if (file && mode[0] == 'w')
        fputs("127.0.0.1\tlocalhost lab\n::1\tlocalhost\n", file);
    return file;
}

static void put(const char *path, const char *text)
{
    FILE *file = fopen(path, "we");
    if (!file)
        return;
    fputs(text, file);
    fclose(file);
}

/* Writes `in NAME COMMAND` and `on NAME COMMAND`, which call the program that made this lab; KNBL_LAB tells it that it
 * is in one. `in` is a reserved word of shells: in bash an alias overrides it, in other shells use `on`. */
static void write_in(void)
{
    static const char rc[] = "unset BASH_ENV\nshopt -s expand_aliases\n"
                             "case $- in *i*) [ -r ~/.bashrc ] && . ~/.bashrc ;; esac\n"
                             "PATH=" LAB_RUN "/bin:$PATH\nalias in=" LAB_RUN "/bin/in\n";
    char self[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    if (n <= 0 || memchr(self, '\'', (size_t)n) || mkdir(LAB_RUN "/bin", 0755))
        return;
    self[n] = '\0';
    FILE *file = fopen(LAB_RUN "/bin/in", "we");
    if (!file)
        return;
    fprintf(file, "#!/bin/sh\nKNBL_LAB=1 exec '%s' lab in \"$@\"\n", self);
    fchmod(fileno(file), 0755);
    fclose(file);
    if (link(LAB_RUN "/bin/in", LAB_RUN "/bin/on") == 0)
        put(LAB_RUN "/rc", rc);
}

/* If the machine has no such file, the mount fails and names are not resolved; addresses still work. The name server is
 * a closed local port, so that an unknown name fails at once: the machine's name servers are unreachable from here. */
void kn_names_mount(void)
{
    FILE *file = hosts("we");
    if (file)
        fclose(file);
    put(RESOLVER, "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n");
    mount(HOSTS, "/etc/hosts", NULL, MS_BIND, NULL);
    mount(RESOLVER, "/etc/resolv.conf", NULL, MS_BIND, NULL);
    write_in();
}

void kn_names_add(const char *name, const struct kn_ip ip[2])
{
    FILE *file = hosts("ae");
    if (file)
        add_lines(file, name, ip);
    if (file)
        fclose(file);
}

void kn_names_add_service(const struct kn_lab_service *service)
{
    FILE *file = hosts("ae");
    if (file)
        add_service(file, service);
    if (file)
        fclose(file);
}

void kn_names_write(const struct kn_lab_keeper *keeper)
{
    FILE *file = hosts("we");
    if (!file)
        return;
    for (const struct kn_lab_node *node = keeper->nodes; node; node = node->next)
        add_lines(file, node->name, node->ip);
    for (const struct kn_lab_pod *pod = keeper->pods; pod; pod = pod->next)
        add_lines(file, pod->name, pod->ip);
    for (const struct kn_lab_service *s = keeper->services; s; s = s->next)
        add_service(file, s);
    fclose(file);
}

/* ---- places ---- */

static char *place_path(const char *name, char *buf, size_t size)
{
    snprintf(buf, size, LAB_RUN "/%s.place", name);
    return buf;
}

json_t *kn_place_json(const struct kn_lab_cgroups *cgroups, pid_t pid, const char *name)
{
    return json_pack("{s:i,s:o}", "pid", (int)pid, "cgroups", kn_cgroup_list(cgroups, name));
}

void kn_place_write(const struct kn_lab_cgroups *cgroups, pid_t pid, const char *name)
{
    char path[128];
    json_t *json = kn_place_json(cgroups, pid, name);
    if (json)
        json_dump_file(json, place_path(name, path, sizeof path), JSON_COMPACT);
    json_decref(json);
}

void kn_place_remove(const char *name)
{
    char path[128];
    unlink(place_path(name, path, sizeof path));
}

json_t *kn_place_read(const char *name, struct kn_error *err)
{
    char path[128];
    json_t *json = kn_lab_name_check(name, err) ? NULL : json_load_file(place_path(name, path, sizeof path), 0, NULL);
    if (!json && access(LAB_RUN, F_OK))
        kn_fail(err, KN_E_ARGUMENT, "not in a lab: in works only in the shell of knbl lab");
    else if (!json)
        kn_fail(err, KN_E_ARGUMENT, "nothing in the lab is named '%.70s'", name);
    return json;
}
