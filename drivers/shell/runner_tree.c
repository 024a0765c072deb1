/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Signals to every descendant, also those that left the command's session and process group. The
 * runner is their reaper, so whoever loses its parent becomes a child of the runner and stays in
 * the tree; the tree is read from /proc. A cgroup would do it in one write but needs delegation
 * that an agent does not always have.
 */
#include "runner.h"

#include "base/mem.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct process {
    pid_t pid;
    pid_t parent;
    bool ours; /* below the runner */
};

struct table {
    struct process *rows;
    size_t count;
    size_t cap;
};

/* 0 when the process is gone. */
static pid_t parent_of(int proc, const char *pid)
{
    char path[64];
    char stat[512];
    (void)snprintf(path, sizeof path, "%.40s/stat", pid);
    int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return 0;
    }
    ssize_t len = read(fd, stat, sizeof stat - 1);
    (void)close(fd);
    stat[len > 0 ? len : 0] = 0;
    /* pid (name) state parent ...: the name may hold anything, so the last parenthesis counts. */
    const char *end = strrchr(stat, ')');
    return end == NULL || strlen(end) < 4 ? 0 : (pid_t)strtol(end + 4, NULL, 10);
}

static void read_processes(DIR *proc, struct table *table)
{
    struct dirent *entry;
    while ((entry = readdir(proc)) != NULL) {
        char *end = NULL;
        long pid = strtol(entry->d_name, &end, 10);
        if (pid <= 0 || *end != 0) {
            continue;
        }
        if (table->count == table->cap) {
            table->cap = table->cap == 0 ? 256 : table->cap * 2;
            table->rows = chp_realloc(table->rows, table->cap * sizeof *table->rows);
        }
        table->rows[table->count++] = (struct process){
            .pid = (pid_t)pid,
            .parent = parent_of(dirfd(proc), entry->d_name),
        };
    }
}

static int compare(const void *a, const void *b)
{
    const struct process *x = a;
    const struct process *y = b;
    return (x->pid > y->pid) - (x->pid < y->pid);
}

/* Marks what is below root. Children mostly have higher numbers than their parents and come later
 * in the sorted table, so that one pass is nearly always enough; numbers that wrapped take another.
 */
static void mark_descendants(struct table *table, pid_t root)
{
    bool again = true;
    while (again) {
        again = false;
        for (size_t i = 0; i < table->count; i++) {
            struct process *row = &table->rows[i];
            struct process key = {.pid = row->parent};
            struct process *parent =
                row->ours ? NULL : bsearch(&key, table->rows, table->count, sizeof key, compare);
            if (parent != NULL && (parent->pid == root || parent->ours)) {
                row->ours = true;
                again = true;
            }
        }
    }
}

void runner__signal_tree(int number)
{
    struct table table = {0};
    DIR *proc = opendir("/proc");
    if (proc == NULL) {
        return;
    }
    read_processes(proc, &table);
    (void)closedir(proc);
    if (table.count > 0) {
        qsort(table.rows, table.count, sizeof *table.rows, compare);
        mark_descendants(&table, getpid());
    }
    for (size_t i = 0; i < table.count; i++) {
        if (table.rows[i].ours) {
            (void)kill(table.rows[i].pid, number);
            (void)kill(table.rows[i].pid, SIGCONT); /* a stopped process would not hear it */
        }
    }
    free(table.rows);
}
