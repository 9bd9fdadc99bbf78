"""The suite's own command, from a folder that `pip install --target` has filled (Python 2.7).

`addsitedir` and not PYTHONPATH, as one package is spread over folders that only a .pth file brings together.
"""
import site
import sys

site.addsitedir(sys.argv.pop(1))

from autobahntestsuite import wstest  # noqa: E402

wstest.run()
