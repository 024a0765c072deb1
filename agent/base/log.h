/* SPDX-License-Identifier: AGPL-3.0-only */
/*
 * Structured log lines on standard error: a constant message and key=value pairs (logfmt), one line
 * per decision.
 *
 *     chp_log_info("operation accepted", CHP_S("resource", id), CHP_I("n", n));
 *
 * The level and the site name are process-wide, set once by main: the only mutable global of the
 * project beside signal flags, since a log call must be possible everywhere. Never log a secret.
 */
#ifndef CHP_BASE_LOG_H
#define CHP_BASE_LOG_H

#include <stddef.h>
#include <stdint.h>

enum chp_log_level { CHP_LOG_DEBUG, CHP_LOG_INFO, CHP_LOG_WARN, CHP_LOG_ERROR };

struct chp_log_field {
    const char *key;
    const char *text; /* NULL: number */
    int64_t number;
};

#define CHP_S(key_, text_)                                                                         \
    ((struct chp_log_field){.key = (key_), .text = (text_) == NULL ? "" : (text_)})
#define CHP_I(key_, number_) ((struct chp_log_field){.key = (key_), .number = (int64_t)(number_)})

#define chp_log(level, message, ...)                                                               \
    chp_log_write((level), (message), (const struct chp_log_field[]){__VA_ARGS__},                 \
                  sizeof((const struct chp_log_field[]){__VA_ARGS__}) /                            \
                      sizeof(struct chp_log_field))
#define chp_log_debug(...) chp_log(CHP_LOG_DEBUG, __VA_ARGS__)
#define chp_log_info(...)  chp_log(CHP_LOG_INFO, __VA_ARGS__)
#define chp_log_warn(...)  chp_log(CHP_LOG_WARN, __VA_ARGS__)
#define chp_log_error(...) chp_log(CHP_LOG_ERROR, __VA_ARGS__)

/* Below level nothing is written. site (copied, may be NULL) is put on every line. */
void chp_log_setup(enum chp_log_level level, const char *site);
/* "debug", "info", "warn", "error"; returns 0 or CHP_EINVAL. */
int chp_log_level_parse(const char *text, enum chp_log_level *level);
void chp_log_write(enum chp_log_level level, const char *message,
                   const struct chp_log_field *fields, size_t count);

#endif
