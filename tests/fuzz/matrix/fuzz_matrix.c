/* SPDX-License-Identifier: AGPL-3.0-only */
/* Any text: refused with a sentence, or brought into a form that is its own canonical form and
 * compiles. */
#include "matrix/matrix.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The text as it came and its canonical form compile to the same. */
static void compile_both(const char *json, const char *canonical)
{
    struct chp_error error = {0};
    struct chp_matrix *given;
    struct chp_matrix *completed;
    CHP_ASSERT(chp_matrix_new(json, &given, &error) == 0);
    CHP_ASSERT(chp_matrix_new(canonical, &completed, &error) == 0);
    CHP_ASSERT(chp_matrix_compare(given, completed) == 0);
    CHP_ASSERT(chp_matrix_type_count(given) == chp_matrix_type_count(completed));
    for (unsigned i = 0; i <= chp_matrix_type_count(given); i++) {
        for (unsigned j = 0; j <= chp_matrix_type_count(given); j++) {
            CHP_ASSERT(chp_matrix_resolve_types(given, i, j) ==
                       chp_matrix_resolve_types(completed, i, j));
        }
    }
    chp_matrix_free(given);
    chp_matrix_free(completed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct chp_arena arena = {0};
    struct chp_error error = {0};
    const char *canonical;
    const char *again;
    const char **notes;
    size_t note_count;
    if (chp_matrix_check(chp_arena_strndup(&arena, data, size), &arena, &canonical, &notes,
                         &note_count, &error) != 0) {
        CHP_ASSERT(error.code < 0 && error.text[0] != '\0');
        CHP_ASSERT(chp_utf8_valid(error.text, strlen(error.text)));
    } else {
        CHP_ASSERT(note_count <= CHP_MATRIX_NOTES_MAX);
        CHP_ASSERT(chp_matrix_check(canonical, &arena, &again, &notes, &note_count, &error) == 0);
        CHP_ASSERT(strcmp(canonical, again) == 0);
        compile_both(chp_arena_strndup(&arena, data, size), canonical);
    }
    chp_arena_deinit(&arena);
    return 0;
}
