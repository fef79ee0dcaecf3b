"""Pytest plugin: tests run on the virtual device, emulated kernels are counted in the summary."""

import virtual_cuda


def pytest_terminal_summary(terminalreporter) -> None:
    launches = virtual_cuda.kernel_launches()
    if launches:
        terminalreporter.section("emulated kernels, launches")
        for kernel, count in launches.items():
            terminalreporter.write_line(f"{count:8d}  {kernel}")
