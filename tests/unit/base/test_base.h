/* SPDX-License-Identifier: AGPL-3.0-only */
#ifndef CHP_TESTS_UNIT_BASE_TEST_BASE_H
#define CHP_TESTS_UNIT_BASE_TEST_BASE_H

/* Each runs a group and returns the number of failures. */
int run_backoff_tests(void);
int run_container_tests(void);
int run_text_tests(void);

#endif
