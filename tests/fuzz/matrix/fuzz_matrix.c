/* SPDX-License-Identifier: AGPL-3.0-only */
/* Any text: refused with a sentence, or brought into a form that is its own canonical form. */
#include "matrix/matrix.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

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
    }
    chp_arena_deinit(&arena);
    return 0;
}
