"""Members of a program."""

from tortoise.migrations.migration import Migration as Base
from tortoise.migrations.operations import RunSQL

# Collation "C" lets the same index serve equality and the prefix search of `members(search:)`.
FORWARD = """
CREATE TABLE member (
    id          uuid PRIMARY KEY,
    program_id  uuid NOT NULL REFERENCES program (id),
    external_id text COLLATE "C" NOT NULL CHECK (length(external_id) BETWEEN 1 AND 255),
    email       text COLLATE "C" CHECK (length(email) <= 320),
    phone       text COLLATE "C" CHECK (length(phone) <= 40),
    name        text COLLATE "C" CHECK (length(name) <= 255),
    birthday    date,
    locale      text CHECK (length(locale) <= 35),
    attributes  jsonb NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(attributes) = 'object'),
    status      text NOT NULL CHECK (status IN ('ACTIVE', 'SUSPENDED', 'CLOSED')),
    joined_at   timestamptz NOT NULL,
    created_at  timestamptz NOT NULL,
    updated_at  timestamptz NOT NULL
);
CREATE UNIQUE INDEX member_external_id_key ON member (program_id, external_id);
CREATE UNIQUE INDEX member_email_key ON member (program_id, lower(email)) WHERE email IS NOT NULL;
CREATE INDEX member_phone ON member (program_id, phone) WHERE phone IS NOT NULL;
CREATE INDEX member_name ON member (program_id, lower(name)) WHERE name IS NOT NULL;
CREATE INDEX member_program ON member (program_id, id);
"""

BACKWARD = "DROP TABLE member"


class Migration(Base):
    dependencies = [("app", "0001_programs")]  # noqa: RUF012
    operations = [RunSQL(FORWARD, BACKWARD)]  # noqa: RUF012
