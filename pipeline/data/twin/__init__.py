"""The rendered stand-in for the recorded data set: an Allegro-like hand, ray-cast on the CPU.

World frame = the hand's base frame, in metres: x = palm normal, which points up; y toward the index finger;
z along the fingers. Read first: recording.py (one sample), then motion.py, render.py and sensor.py.
"""

import os

# MuJoCo only casts rays and computes kinematics here. A stray MUJOCO_GL=egl would break its import on
# machines without EGL, so this stands in the package, which Python imports before any of its modules.
os.environ["MUJOCO_GL"] = "disable"
