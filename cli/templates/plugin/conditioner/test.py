from collections.abc import Callable

from weft.plugin import Plugin, parametrize_with_checks

from {{ name }} import {{ cls }}


@parametrize_with_checks([{{ cls }}()])
def test_contract(plugin: Plugin, check: Callable[[Plugin], None]) -> None:
    check(plugin)
