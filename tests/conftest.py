"""What all tests share."""

import pytest
import torch

from tests.browser import browser_page
from tests.page_visits import slow_answers

__all__ = ["browser_page", "slow_answers"]  # fixtures of every test that names them


def pytest_configure(config: pytest.Config) -> None:
    # The suite runs many small products: one thread is fastest, and repeatable.
    torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="needs a CUDA device, torch sees none here")
    for item in items:
        if item.get_closest_marker("gpu"):
            item.add_marker(skip)


@pytest.fixture(autouse=True)
def _same_start() -> None:
    """Every test starts alike, whatever the one before has set."""
    torch.manual_seed(42)
    torch.set_grad_enabled(True)
