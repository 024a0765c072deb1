/* SPDX-License-Identifier: AGPL-3.0-only */
/* The table of options and what reads it. Internal to the folder. */
#ifndef CHP_CONFIG_INTERNAL_H
#define CHP_CONFIG_INTERNAL_H

#include "config/config.h"

enum config__section_id {
    SECTION_AGENT,
    SECTION_DATABASE,
    SECTION_BROKER,
    SECTION_HTTP,
    SECTION_SHELL,
    SECTION_REST,
    SECTION_FILES,
    SECTION_SITE,
    SECTION_SERVICE,
};
enum { CONFIG__SECTION_COUNT = SECTION_SERVICE + 1 };

struct config__section {
    const char *name; /* "site." for sections [site.NAME] */
    bool named;
    bool reloads;        /* named: one may come and go while the agent runs */
    const char *example; /* named: a NAME */
    const char *doc;
};

enum config__type {
    OPTION_STRING,
    OPTION_PATH,
    OPTION_BOOL,
    OPTION_NUMBER,
    OPTION_LIST,
    OPTION_CHOICE,
};

enum config__unit { UNIT_COUNT, UNIT_BYTES, UNIT_MS, UNIT_S };

struct config__choice {
    const char *name; /* NULL ends the array */
    int value;
};

/* Returns NULL when value (of a list: each item) is fine, else what is allowed. */
typedef const char *config__check_fn(const char *value);

struct config__option {
    enum config__section_id section;
    enum config__type type;
    const char *key;
    size_t offset;       /* in struct chp_config, or in the named section's struct */
    const char *preset;  /* default as in a file; NULL: not set */
    const char *example; /* for the sample, when there is no preset */
    bool required;       /* strings and paths only */
    bool reloads;
    bool secret; /* the value is never shown */
    enum config__unit unit;
    uint64_t min;
    uint64_t max;
    const struct config__choice *choices;
    config__check_fn *check;
    const char *doc;
};

extern const struct config__section config__sections[CONFIG__SECTION_COUNT];
extern const struct config__option config__options[];
extern const size_t config__option_count;

/* Reads value into target (struct chp_config, chp_config_site or chp_config_service). Returns NULL,
 * or what is allowed (in arena). An empty value unsets what has no preset. */
const char *config__set(const struct config__option *option, const char *value,
                        const char *directory, struct chp_arena *arena, void *target);
/* Puts every option of the section at its preset. */
void config__set_presets(enum config__section_id section, const char *directory,
                         struct chp_arena *arena, void *target);
bool config__equal(const struct config__option *option, const void *a, const void *b);

/* The next line of text, cut off from its front, without its end; false behind the last one. */
bool config__next_line(struct chp_bytes *text, struct chp_bytes *line);
struct chp_bytes config__trim(struct chp_bytes text);
/* Reads at most max_bytes of an open regular file. A sentence about path in *error. */
int config__read(int fd, const char *path, size_t max_bytes, struct chp_buf *out,
                 struct chp_error *error) CHP_MUST_CHECK;

#endif
