#!/usr/bin/env bash
# Prepares everything this project needs, once, and then runs a command inside it. `./mt help` lists the commands.
# This script only finds a Python; the work is done by .mt/commands.py.
set -eu

root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd)

# A command started by another ./mt keeps that one's environment.
if [ -n "${MT_BASE_PYTHON:-}" ] && [ -x "${MT_BASE_PYTHON}" ]; then
  exec "$MT_BASE_PYTHON" "$root/.mt/commands.py" "$@"
fi

# The interpreter of a prepared environment is known already.
if [ -z "${ROS_DISTRO:-}${MT_PYTHON:-}" ] && [ -f "$root/.venv/mt.json" ]; then
  python=$(sed -n 's/^ "interpreter": "\(.*\)",\{0,1\}$/\1/p' "$root/.venv/mt.json")
  if [ -x "$python" ]; then
    MT_ROS=pypi exec "$python" "$root/.mt/commands.py" "$@"
  fi
fi

candidates="${MT_PYTHON:-python3 /usr/bin/python3 python3.12 python3.11 python3.13 python3.10 python3.14}"
suits='import sys; assert (3, 10) <= sys.version_info[:2] <= (3, 14)'

# With ROS 2 sourced: the interpreter its rclpy was built for.
if [ -n "${ROS_DISTRO:-}" ]; then
  for python in $candidates; do
    if command -v "$python" >/dev/null && "$python" -c "$suits; import rclpy" 2>/dev/null; then
      MT_ROS=$ROS_DISTRO exec "$python" "$root/.mt/commands.py" "$@"
    fi
  done
  echo "mt: ROS_DISTRO is '$ROS_DISTRO' but no Python 3.10-3.14 here can import its rclpy;" \
    "using ROS 2 from PyPI instead" >&2
fi

found=''
for python in $candidates; do
  if command -v "$python" >/dev/null && version=$("$python" -c 'import platform; print(platform.python_version())' 2>/dev/null); then
    if python=$("$python" -c "$suits; print(sys.executable)" 2>/dev/null); then
      MT_ROS=pypi exec "$python" "$root/.mt/commands.py" "$@"
    fi
    found="$found $version ($python)"
  fi
done
echo "mt: needs Python 3.10 to 3.14, found ${found:-none}; Debian 12, Ubuntu 22.04 and later have one:" \
  "sudo apt install python3 python3-venv python3-dev  (or name yours: MT_PYTHON=/path/to/python3.12 ./mt ...)" >&2
exit 1
