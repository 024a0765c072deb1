/* SPDX-License-Identifier: AGPL-3.0-only */
/* A PostgreSQL cluster of the test's own, in a directory of its own, on a unix socket. */
#ifndef CHP_TESTS_STORE_CLUSTER_H
#define CHP_TESTS_STORE_CLUSTER_H

#include <libpq-fe.h>
#include <stdbool.h>
#include <sys/types.h>

struct cluster {
    char directory[64];
    char bin[128];
    char dsn[512];
    pid_t pid; /* of its server */
    bool own;  /* false: CHEOPS_TEST_DSN names one, which cannot be stopped */
};

/* Starts one, or takes CHEOPS_TEST_DSN (a database whose name contains "test": its schema cheops is
 * dropped). Fails the program when neither is possible: a suite that is skipped proves nothing. */
void cluster_start(struct cluster *cluster);
/* Stops it and removes the directory. */
void cluster_stop(struct cluster *cluster);
/* Stops at once and leaves the data, as a crash would; starts again. */
void cluster_crash(struct cluster *cluster);
void cluster_restart(struct cluster *cluster);
/* A connection beside the store's; statements must succeed. */
PGconn *cluster_connect(const struct cluster *cluster);
void cluster_run(PGconn *pg, const char *sql);
/* Empties all tables, once the sessions of earlier stores have ended. */
void cluster_clear(const struct cluster *cluster);
/* First value of the first row, in static storage. */
const char *cluster_ask(PGconn *pg, const char *sql);

#endif
