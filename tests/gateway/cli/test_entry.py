import subprocess
import sys


def test_the_agents_install_says_what_the_gateway_needs() -> None:
    script = (
        "import sys; sys.modules['click'] = None\n"  # as if it were not installed
        "from gateway.cli.entry import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "error: this install is the agent alone, without click (server_missing)",
        "hint: Install the gateway's part too: pip install 'trusted-gateway[server]'",
    ]


def test_with_all_of_it_the_command_runs() -> None:
    script = "import sys; sys.argv = ['trusted-gateway', '--version']; from gateway.cli.entry import main; main()"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
