# SPDX-License-Identifier: MIT
"""How much of each workload: full for figures, medium for fewer hours, quick to see that all is well, smoke for CI.

No image is smaller than 320 MiB, since mkfs.xfs refuses less than 300.
"""

FULL = {
    "rounds": 5, "ms": 5000, "image_mib": 8192,
    "names": 50000, "parallel_names": 40000,
    "file_mib": 2048, "random_mib": 1024,
    "appends": 3000000, "syncs": 3000,
    "rows": 1000000, "commits": 2000,
    "tree_files": 50000, "git_files": 2000, "git_built": 120,
    "full_mib": 2048, "fsck_files": 200000,
    "growth": 1000000, "growth_devices": [1 << 30, 64 << 30, 1 << 40, 16 << 40], "growth_files": 10000,
    "idle_s": 10,
}
MEDIUM = {
    "rounds": 3, "ms": 2000, "image_mib": 4096,
    "names": 20000, "parallel_names": 16000,
    "file_mib": 512, "random_mib": 512,
    "appends": 400000, "syncs": 1000,
    "rows": 200000, "commits": 500,
    "tree_files": 10000, "git_files": 1000, "git_built": 40,
    "full_mib": 512, "fsck_files": 50000,
    "growth": 100000, "growth_devices": [1 << 30, 1 << 40, 16 << 40], "growth_files": 4000,
    "idle_s": 3,
}
QUICK = {
    "rounds": 1, "ms": 400, "image_mib": 2048,
    "names": 4000, "parallel_names": 4000,
    "file_mib": 128, "random_mib": 128,
    "appends": 100000, "syncs": 200,
    "rows": 40000, "commits": 100,
    "tree_files": 2000, "git_files": 200, "git_built": 10,
    "full_mib": 320, "fsck_files": 5000,
    "growth": 10000, "growth_devices": [1 << 30, 16 << 40], "growth_files": 1000,
    "idle_s": 1,
}
SMOKE = {
    "rounds": 1, "ms": 200, "image_mib": 320,
    "names": 500, "parallel_names": 1000,
    "file_mib": 16, "random_mib": 16,
    "appends": 2000, "syncs": 20,
    "rows": 1000, "commits": 10,
    "tree_files": 100, "git_files": 20, "git_built": 3,
    "full_mib": 320, "fsck_files": 300,
    "growth": 1000, "growth_devices": [320 << 20, 1 << 30], "growth_files": 100,
    "idle_s": 0.5,
}
SCALES = {"full": FULL, "medium": MEDIUM, "quick": QUICK, "smoke": SMOKE}
