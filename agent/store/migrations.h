/* SPDX-License-Identifier: AGPL-3.0-only */
/* The files of schema/, embedded by embed.cmake: number i + 1 is migrations[i]. Internal to the
 * store. */
#ifndef CHP_STORE_MIGRATIONS_H
#define CHP_STORE_MIGRATIONS_H

#include <stddef.h>

struct migration {
    const char *name; /* of the file */
    const char *sql;
};

extern const struct migration store__migrations[];
extern const size_t store__migration_count;

#endif
