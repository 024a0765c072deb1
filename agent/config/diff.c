/* SPDX-License-Identifier: AGPL-3.0-only */
/* What a reload changes, and what of it has to wait for a new start. */
#include "config/internal.h"

#include "base/limits.h"

#include <string.h>

/* Named sections of one kind, whatever their struct: each begins with its name. */
struct named {
    enum config__section_id section;
    const void *items;
    size_t item_bytes;
    size_t count;
};

static const void *item_at(const struct named *named, size_t index)
{
    return (const char *)named->items + index * named->item_bytes;
}

static const char *name_at(const struct named *named, size_t index)
{
    return *(const char *const *)item_at(named, index);
}

static const void *find(const struct named *named, const char *name)
{
    for (size_t i = 0; i < named->count; i++) {
        if (strcmp(name_at(named, i), name) == 0) {
            return item_at(named, i);
        }
    }
    return NULL;
}

static void add(struct chp_config_diff *diff, bool reloads, const char *text)
{
    if (reloads) {
        diff->reload[diff->reload_count++] = text;
    } else {
        diff->restart[diff->restart_count++] = text;
    }
}

static void compare(enum config__section_id section, const char *name, const void *old_target,
                    const void *new_target, struct chp_arena *arena, struct chp_config_diff *diff)
{
    for (size_t i = 0; i < config__option_count; i++) {
        const struct config__option *option = &config__options[i];
        if (option->section == section && !config__equal(option, old_target, new_target)) {
            add(diff, option->reloads,
                chp_arena_printf(arena, "[%s%s] %s", config__sections[section].name, name,
                                 option->key));
        }
    }
}

static void compare_named(const struct named *old_named, const struct named *new_named,
                          struct chp_arena *arena, struct chp_config_diff *diff)
{
    const struct config__section *section = &config__sections[new_named->section];
    for (size_t i = 0; i < old_named->count; i++) {
        const char *name = name_at(old_named, i);
        const void *counterpart = find(new_named, name);
        if (counterpart == NULL) {
            add(diff, section->reloads, chp_arena_printf(arena, "[%s%s]", section->name, name));
        } else {
            compare(new_named->section, name, item_at(old_named, i), counterpart, arena, diff);
        }
    }
    for (size_t i = 0; i < new_named->count; i++) {
        const char *name = name_at(new_named, i);
        if (find(old_named, name) == NULL) {
            add(diff, section->reloads, chp_arena_printf(arena, "[%s%s]", section->name, name));
        }
    }
}

static struct named sites_of(const struct chp_config *config)
{
    static_assert(offsetof(struct chp_config_site, name) == 0, "find() reads it there");
    return (struct named){SECTION_SITE, config->sites, sizeof *config->sites, config->site_count};
}

static struct named services_of(const struct chp_config *config)
{
    static_assert(offsetof(struct chp_config_service, name) == 0, "find() reads it there");
    return (struct named){SECTION_SERVICE, config->services, sizeof *config->services,
                          config->service_count};
}

void chp_config_diff(const struct chp_config *old_config, const struct chp_config *new_config,
                     struct chp_arena *arena, struct chp_config_diff *diff)
{
    size_t named_max = old_config->site_count + new_config->site_count + old_config->service_count +
                       new_config->service_count;
    size_t max = config__option_count * (1 + named_max);
    *diff = (struct chp_config_diff){
        .reload = chp_arena_calloc(arena, max, sizeof(char *)),
        .restart = chp_arena_calloc(arena, max, sizeof(char *)),
    };
    for (int i = 0; i < CONFIG__SECTION_COUNT; i++) {
        if (!config__sections[i].named) {
            compare((enum config__section_id)i, "", old_config, new_config, arena, diff);
        }
    }
    struct named old_named = sites_of(old_config);
    struct named new_named = sites_of(new_config);
    compare_named(&old_named, &new_named, arena, diff);
    old_named = services_of(old_config);
    new_named = services_of(new_config);
    compare_named(&old_named, &new_named, arena, diff);
}
