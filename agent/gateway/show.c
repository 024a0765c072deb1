/* SPDX-License-Identifier: AGPL-3.0-only */
/* A reading command on every site of a resource: collects the answers until all are in or the time
 * is over. */
#include "gateway/internal.h"

#include "base/mem.h"

#include <stdlib.h>
#include <string.h>

bool gateway__answers_equal(const json_t *a, const json_t *b)
{
    static const char *const compared[] = {"state", "exit_code", "output", "output_base64"};
    for (size_t i = 0; i < sizeof compared / sizeof compared[0]; i++) {
        const json_t *left = json_object_get(a, compared[i]);
        const json_t *right = json_object_get(b, compared[i]);
        if (left != right && !json_equal(left, right)) {
            return false;
        }
    }
    return true;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

const char **gateway__sites_sorted(const json_t *answers, struct chp_arena *arena)
{
    const char **names = chp_arena_calloc(arena, json_object_size(answers) + 1, sizeof(char *));
    size_t count = 0;
    const char *site;
    json_t *answer;
    json_object_foreach((json_t *)(uintptr_t)answers, site, answer)
    {
        names[count++] = site;
    }
    qsort(names, count, sizeof(char *), by_name);
    return names;
}

/* The largest first; of equal ones, the one with the first name. */
static int by_size(const void *a, const void *b)
{
    json_t *x = *(json_t *const *)a;
    json_t *y = *(json_t *const *)b;
    if (json_array_size(x) != json_array_size(y)) {
        return json_array_size(x) > json_array_size(y) ? -1 : 1;
    }
    return strcmp(json_string_value(json_array_get(x, 0)), json_string_value(json_array_get(y, 0)));
}

json_t *gateway__answer_groups(const json_t *answers, struct chp_arena *arena)
{
    const char **names = gateway__sites_sorted(answers, arena);
    size_t sites = json_object_size(answers);
    json_t **groups = chp_arena_calloc(arena, sites + 1, sizeof(json_t *));
    const json_t **examples = chp_arena_calloc(arena, sites + 1, sizeof(json_t *));
    size_t count = 0;
    for (size_t k = 0; k < sites; k++) {
        const json_t *answer = json_object_get(answers, names[k]);
        size_t i = 0;
        if (strcmp(json_string_value(json_object_get(answer, "state")), "timeout") == 0) {
            continue;
        }
        while (i < count && !gateway__answers_equal(examples[i], answer)) {
            i++;
        }
        if (i == count) {
            examples[count] = answer;
            groups[count++] = json_array();
        }
        (void)json_array_append_new(groups[i], gateway__json_text(names[k]));
    }
    qsort(groups, count, sizeof(json_t *), by_size);
    json_t *list = json_array();
    for (size_t i = 0; i < count; i++) {
        (void)json_array_append_new(list, groups[i]);
    }
    return list;
}

bool gateway__answers_add(json_t *answers, const struct chp_answer *answer,
                          const char *const *sites, size_t site_count)
{
    if (answer != NULL) {
        (void)json_object_set_new(answers, answer->site, gateway__json_of_answer(answer));
        return false;
    }
    for (size_t i = 0; i < site_count; i++) {
        if (json_object_get(answers, sites[i]) == NULL) {
            json_t *silent = json_pack("{s:s, s:i, s:s, s:b, s:s, s:i}", "state", "timeout",
                                       "exit_code", -1, "output", "", "output_cut", 0, "reason",
                                       "the site did not answer in time", "duration_ms", 0);
            (void)json_object_set_new(answers, sites[i], silent);
        }
    }
    return true;
}

struct show {
    json_t *answers; /* by site */
    gateway_show_fn *on_done;
};

static void show_free(void *state)
{
    struct show *show = state;
    json_decref(show->answers);
    free(show);
}

static void show_on_answer(void *user, int code, const struct chp_answer *answer,
                           const char *const *sites, size_t site_count,
                           const struct chp_error *error)
{
    struct gateway_exchange *exchange = gateway__exchange_of(user);
    if (exchange == NULL) {
        return;
    }
    struct show *show = exchange->state;
    if (code != 0) {
        gateway__reply_error(exchange, 0, code, error != NULL ? error->text : NULL);
    } else if (gateway__answers_add(show->answers, answer, sites, site_count)) {
        show->on_done(exchange, show->answers);
    }
}

void gateway__show(struct gateway_exchange *exchange, struct chp_show *asked,
                   gateway_show_fn *on_done)
{
    struct chp_agent_port *port = &exchange->door->port;
    struct chp_error error = {0};
    int rc = chp_resource_id_check(exchange->id, &error);
    if (rc == 0) {
        rc = port->vtable->check(port->agent, asked->driver, asked->payload, NULL, 0, &error);
    }
    if (rc != 0) {
        gateway__refuse(exchange, 0, rc, "%s", error.text);
        return;
    }
    struct show *show = chp_alloc(sizeof *show);
    show->answers = json_object();
    show->on_done = on_done;
    exchange->state = show;
    exchange->state_free = show_free;
    asked->id = chp_uuid_new();
    asked->resource = exchange->id;
    asked->principal = exchange->principal;
    exchange->asked = true;
    port->vtable->show(port->agent, asked, show_on_answer, exchange);
}
