/* SPDX-License-Identifier: Apache-2.0 */
/* agent_box.h: a small sandbox for one agent under test; see agent_driver.h. */
#ifndef BRIG_TESTS_AGENT_BOX_H
#define BRIG_TESTS_AGENT_BOX_H

#include <stdbool.h>

struct drv_options;

bool box_possible(const char **ret_why);
/* In a child of the test: becomes the parent of the agent, waits for it, returns its exit code; 99
 * if the box could not be built. */
int box_run(const struct drv_options *o, int chan);

#endif
