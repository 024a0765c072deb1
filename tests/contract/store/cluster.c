/* SPDX-License-Identifier: AGPL-3.0-only */
#include "cluster.h"

#include <glob.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void give_up(const char *what, const char *detail)
{
    (void)fprintf(stderr, "no PostgreSQL to test with: %s: %s (or set CHEOPS_TEST_DSN)\n", what,
                  detail);
    exit(1);
}

/* PostgreSQL refuses to run as root. */
static const struct passwd *postgres_user(void)
{
    if (geteuid() != 0) {
        return NULL;
    }
    const struct passwd *user = getpwnam("postgres");
    if (user == NULL) {
        give_up("running as root", "there is no user postgres");
    }
    return user;
}

/* In the child: PostgreSQL's user, its output in the directory's log, and an end with the test,
 * however that ends. */
static void become_program(const char *directory, const char *const *argv)
{
    const struct passwd *user = postgres_user();
    char log[96];
    (void)snprintf(log, sizeof log, "%s/log", directory);
    if (user != NULL && (initgroups(user->pw_name, user->pw_gid) != 0 ||
                         setgid(user->pw_gid) != 0 || setuid(user->pw_uid) != 0)) {
        _exit(126);
    }
    if (prctl(PR_SET_PDEATHSIG, SIGQUIT) != 0 || chdir(directory) != 0 ||
        freopen(log, "a", stdout) == NULL || freopen(log, "a", stderr) == NULL) {
        _exit(126);
    }
    (void)execv(argv[0], (char *const *)argv);
    _exit(127);
}

static pid_t spawn(const char *directory, const char *const *argv)
{
    pid_t pid = fork();
    if (pid == 0) {
        become_program(directory, argv);
    }
    if (pid < 0) {
        give_up("fork", argv[0]);
    }
    return pid;
}

static void find_bin(struct cluster *cluster)
{
    glob_t found;
    if (glob("/usr/lib/postgresql/*/bin/initdb", 0, NULL, &found) != 0 &&
        glob("/usr/*/bin/initdb", 0, NULL, &found) != 0 &&
        glob("/usr/bin/initdb", 0, NULL, &found) != 0) {
        give_up("initdb", "not found");
    }
    (void)snprintf(cluster->bin, sizeof cluster->bin, "%s", found.gl_pathv[found.gl_pathc - 1]);
    *strrchr(cluster->bin, '/') = 0;
    globfree(&found);
}

/* A cold start on a loaded machine. */
enum { START_TRIES = 600, START_PAUSE_US = 100 * 1000 };

static void start(struct cluster *cluster)
{
    char program[160];
    char data[96];
    (void)snprintf(program, sizeof program, "%s/postgres", cluster->bin);
    (void)snprintf(data, sizeof data, "%s/data", cluster->directory);
    const char *argv[] = {program,
                          "-D",
                          data,
                          "-k",
                          cluster->directory,
                          "-c",
                          "listen_addresses=",
                          "-c",
                          "fsync=off",
                          "-c",
                          "max_connections=20",
                          "-c",
                          "shared_buffers=16MB",
                          "-c",
                          "log_min_messages=fatal",
                          NULL};
    cluster->pid = spawn(cluster->directory, argv);
    for (int i = 0; i < START_TRIES; i++) {
        if (PQping(cluster->dsn) == PQPING_OK) {
            return;
        }
        if (waitpid(cluster->pid, NULL, WNOHANG) == cluster->pid) {
            break;
        }
        (void)usleep(START_PAUSE_US);
    }
    give_up("postgres did not start, see the log in", cluster->directory);
}

static void use_given(struct cluster *cluster, const char *dsn)
{
    (void)snprintf(cluster->dsn, sizeof cluster->dsn, "%s", dsn);
    PGconn *pg = cluster_connect(cluster);
    if (strstr(PQdb(pg), "test") == NULL) {
        give_up("CHEOPS_TEST_DSN", "the name of its database must contain \"test\"");
    }
    cluster_run(pg, "DROP SCHEMA IF EXISTS cheops CASCADE");
    PQfinish(pg);
}

void cluster_start(struct cluster *cluster)
{
    const char *dsn = getenv("CHEOPS_TEST_DSN");
    const struct passwd *user = postgres_user();
    *cluster = (struct cluster){.own = dsn == NULL || dsn[0] == 0};
    if (!cluster->own) {
        use_given(cluster, dsn);
        return;
    }
    find_bin(cluster);
    (void)snprintf(cluster->directory, sizeof cluster->directory, "/tmp/cheops-test-XXXXXX");
    if (mkdtemp(cluster->directory) == NULL ||
        (user != NULL && chown(cluster->directory, user->pw_uid, user->pw_gid) != 0)) {
        give_up("a temporary directory", cluster->directory);
    }
    char program[160];
    char data[96];
    (void)snprintf(program, sizeof program, "%s/initdb", cluster->bin);
    (void)snprintf(data, sizeof data, "%s/data", cluster->directory);
    const char *argv[] = {program, "-D", data,   "-U",         "postgres",  "-A",
                          "trust", "-E", "UTF8", "--locale=C", "--no-sync", NULL};
    int status = -1;
    if (waitpid(spawn(cluster->directory, argv), &status, 0) < 0 || status != 0) {
        give_up("initdb failed, see the log in", cluster->directory);
    }
    (void)snprintf(cluster->dsn, sizeof cluster->dsn, "host=%s user=postgres dbname=postgres",
                   cluster->directory);
    start(cluster);
}

void cluster_crash(struct cluster *cluster)
{
    if (kill(cluster->pid, SIGQUIT) != 0 || waitpid(cluster->pid, NULL, 0) != cluster->pid) {
        give_up("postgres did not stop, see the log in", cluster->directory);
    }
}

void cluster_stop(struct cluster *cluster)
{
    if (!cluster->own) {
        return;
    }
    cluster_crash(cluster);
    const char *argv[] = {"/bin/rm", "-rf", cluster->directory, NULL};
    pid_t pid = fork();
    if (pid == 0) {
        (void)execv(argv[0], (char *const *)argv);
        _exit(127);
    }
    (void)waitpid(pid, NULL, 0);
}

void cluster_restart(struct cluster *cluster)
{
    start(cluster);
}

PGconn *cluster_connect(const struct cluster *cluster)
{
    PGconn *pg = PQconnectdb(cluster->dsn);
    if (PQstatus(pg) != CONNECTION_OK) {
        give_up("connecting", PQerrorMessage(pg));
    }
    return pg;
}

void cluster_run(PGconn *pg, const char *sql)
{
    PGresult *result = PQexec(pg, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK) {
        give_up(sql, PQerrorMessage(pg));
    }
    PQclear(result);
}

const char *cluster_ask(PGconn *pg, const char *sql)
{
    static char value[256];
    PGresult *result = PQexec(pg, sql);
    if (PQresultStatus(result) != PGRES_TUPLES_OK || PQntuples(result) == 0) {
        give_up(sql, PQerrorMessage(pg));
    }
    (void)snprintf(value, sizeof value, "%s", PQgetvalue(result, 0, 0));
    PQclear(result);
    return value;
}

enum { SESSIONS_GONE_TRIES = 3000, SESSIONS_GONE_PAUSE_US = 10 * 1000 };

void cluster_clear(const struct cluster *cluster)
{
    PGconn *pg = cluster_connect(cluster);
    for (int i = 0; strcmp(cluster_ask(pg, "SELECT count(*) FROM pg_stat_activity"
                                           " WHERE application_name LIKE 'cheops-agent%'"),
                           "0") != 0;
         i++) {
        if (i == SESSIONS_GONE_TRIES) {
            give_up("sessions are left", "by a test that failed, see above");
        }
        (void)usleep(SESSIONS_GONE_PAUSE_US);
    }
    cluster_run(
        pg, "TRUNCATE cheops.self, cheops.resource, cheops.operation, cheops.execution,"
            " cheops.outbound, cheops.stream, cheops.event, cheops.idempotency_key, cheops.peer,"
            " cheops.reply, cheops.listener, cheops.lost, cheops.undecoded"
            " RESTART IDENTITY");
    PQfinish(pg);
}
