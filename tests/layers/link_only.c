/* SPDX-License-Identifier: MIT */
/* Linked with whole libraries: that it links is the test. */
int main(void)
{
	return 0;
}
