"""Push-to-deploy for plain Linux hosts, systemd-native."""

__version__ = "0.1.0"
