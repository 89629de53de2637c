"""A table of what is left, from a file of JSON."""

import json
import sys

import jinja2

PAGE = """<!doctype html>
<title>Stock</title>
<table>
{%- for item in stock %}
<tr><td>{{ item.name }}</td><td>{{ item.left or "sold out" }}</td></tr>
{%- endfor %}
</table>
"""

with open(sys.argv[1], encoding="utf-8") as file:
    print(jinja2.Environment(autoescape=True).from_string(PAGE).render(stock=json.load(file)))
