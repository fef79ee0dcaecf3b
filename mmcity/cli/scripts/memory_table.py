"""Write the table of the GPU memory that all configs need; minutes of one core."""

from mmcity.cli.options import command

EXAMPLE = "tools/analysis_tools/memory_table.py --out docs/user_guides/gpu_memory_table.md"

add_arguments, run = command("mmcity.engine.dry_run.table:write_memory_table")
