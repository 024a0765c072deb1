/* SPDX-License-Identifier: AGPL-3.0-only */
/* Compiled matrices by their text, counted: thousands of resources have the same few. */
#include "sequence/matrices.h"

#include "base/map.h"
#include "base/mem.h"

#include <stdlib.h>

struct chp_matrices {
    struct chp_map *by_text; /* struct compiled * */
    struct compiled *none;
};

struct chp_matrices *chp_matrices_new(void)
{
    struct chp_matrices *matrices = chp_alloc(sizeof *matrices);
    matrices->by_text = chp_map_new((uint64_t)(uintptr_t)matrices);
    matrices->none = matrices__use(matrices, NULL);
    return matrices;
}

static void compiled_free(struct compiled *compiled)
{
    chp_matrix_free(compiled->matrix);
    free(compiled->text);
    free(compiled);
}

void chp_matrices_free(struct chp_matrices *matrices)
{
    if (matrices == NULL) {
        return;
    }
    compiled_free(matrices->none);
    CHP_ASSERT(chp_map_count(matrices->by_text) == 0);
    chp_map_free(matrices->by_text);
    free(matrices);
}

/* A text that is not a matrix decides nothing: no agent lets one in, and every site that gets it
 * all the same reads it alike. */
static struct compiled *compile(const char *text)
{
    struct compiled *compiled = chp_alloc(sizeof *compiled);
    if (chp_matrix_new(text, &compiled->matrix, NULL) != 0) {
        int code = chp_matrix_new(NULL, &compiled->matrix, NULL);
        CHP_ASSERT(code == 0);
    }
    compiled->text = text == NULL ? NULL : chp_strdup(text);
    return compiled;
}

struct compiled *matrices__use(struct chp_matrices *matrices, const char *text)
{
    if (text == NULL) {
        if (matrices->none == NULL) {
            matrices->none = compile(NULL);
        }
        return matrices->none;
    }
    struct compiled *compiled = chp_map_get(matrices->by_text, chp_bytes_of(text));
    if (compiled == NULL) {
        compiled = compile(text);
        chp_map_put(matrices->by_text, chp_bytes_of(text), compiled);
    }
    compiled->users++;
    return compiled;
}

void matrices__leave(struct chp_matrices *matrices, struct compiled *compiled)
{
    if (compiled != matrices->none && --compiled->users == 0) {
        chp_map_remove(matrices->by_text, chp_bytes_of(compiled->text));
        compiled_free(compiled);
    }
}
