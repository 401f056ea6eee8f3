"""Commands about data: `cvjax data NAME`."""
