-- The agency's own tables. They share schema `velo` with the engine, whose tables have singular
-- names, and have no foreign keys into them: a run may be removed by retention while the project
-- it made stays.
--
-- Rules that hold for every table here:
-- * `tenant_id` is on child tables too, so that a row-level policy can be written without a join.
--   Foreign keys between tables carry it, so a child can never belong to another tenant than its
--   parent, whatever the code that wrote it believed.
-- * Nothing cascades. Projects are archived; removing one is a deliberate act, table by table.
-- * Statuses are text with a check rather than enum types: adding a value to a check takes one
--   transaction, and every driver can read it.

create schema if not exists velo;

create table velo.tenants (
    id            uuid primary key,
    company_name  text        not null check (company_name <> ''),
    -- A DNS label: it becomes part of a host name.
    subdomain     text        not null unique check (subdomain ~ '^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$'),
    plan_tier     text        not null default 'free' check (plan_tier in ('free', 'pro', 'enterprise')),
    settings      jsonb       not null default '{}' check (jsonb_typeof(settings) = 'object'),
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now()
);

create table velo.users (
    id            uuid primary key,
    tenant_id     uuid        not null references velo.tenants (id),
    -- Null until the person has signed in through Firebase; the local user never does.
    firebase_uid  text        unique,
    email         text        not null check (email <> ''),
    display_name  text        not null default '',
    role          text        not null default 'member' check (role in ('admin', 'member', 'viewer')),
    created_at    timestamptz not null default now(),
    updated_at    timestamptz not null default now(),
    -- The target of foreign keys that carry the tenant; every parent table has one.
    unique (tenant_id, id)
);

-- Addresses are compared without case, as mail servers in practice do.
create unique index users_email on velo.users (tenant_id, lower(email));

create table velo.projects (
    id                uuid primary key,
    tenant_id         uuid        not null references velo.tenants (id),
    user_id           uuid        not null,
    name              text        not null check (name <> ''),
    description       text        not null,
    -- What the person asked for, word for word: the input of planning. `description` may be edited
    -- later, this may not.
    brief             text        not null,
    plane_project_id  text,
    status            text        not null default 'planning'
                      check (status in ('planning', 'in_progress', 'completed', 'archived', 'failed')),
    -- One sentence for people about the status: what is happening, or why planning stopped.
    status_message    text,
    -- The engine's run that works on this project.
    run_id            bigint,
    created_at        timestamptz not null default now(),
    updated_at        timestamptz not null default now(),
    unique (tenant_id, id),
    foreign key (tenant_id, user_id) references velo.users (tenant_id, id)
);

-- The list of projects, newest first, read page by page from a position.
create index projects_newest on velo.projects (tenant_id, created_at desc, id desc);

create table velo.tasks (
    id               uuid primary key,
    tenant_id        uuid        not null references velo.tenants (id),
    project_id       uuid        not null,
    -- The plan's own name for the task, such as T-001. Planning writes by this key, so a plan that
    -- is written twice makes its tasks once.
    key              text        not null check (key <> ''),
    plane_issue_id   text,
    title            text        not null check (title <> ''),
    description      text        not null default '',
    -- Open vocabulary: plans of every kind of project share this table.
    kind             text        not null default 'task' check (kind <> ''),
    priority         text        not null default 'medium'
                     check (priority in ('low', 'medium', 'high', 'urgent')),
    status           text        not null default 'pending'
                     check (status in ('pending', 'in_progress', 'completed', 'failed',
                                       'pending_review', 'blocked', 'cancelled')),
    assigned_agent   text,
    -- Keys of tasks of the same project, and ids of requirements in its PRD.
    depends_on       text[]      not null default '{}',
    requirement_ids  text[]      not null default '{}',
    acceptance       jsonb       not null default '[]',
    estimate         jsonb,
    -- The plan's order. Not unique, so that a task can be moved by writing one row.
    position         integer     not null default 0 check (position >= 0),
    created_at       timestamptz not null default now(),
    updated_at       timestamptz not null default now(),
    unique (tenant_id, id),
    unique (project_id, key),
    foreign key (tenant_id, project_id) references velo.projects (tenant_id, id)
);

create index tasks_in_order on velo.tasks (tenant_id, project_id, position, id);

create table velo.artifacts (
    id              uuid primary key,
    tenant_id       uuid        not null references velo.tenants (id),
    project_id      uuid        not null,
    task_id         uuid,
    agent_name      text        not null check (agent_name <> ''),
    agent_division  text        not null,
    -- A relative path inside the project. It names a file in exports, so nothing may climb out.
    file_name       text        not null
                    check (file_name <> '' and length(file_name) <= 512
                           and file_name !~ '(^/|\\|(^|/)\.\.?(/|$)|[[:cntrl:]])'),
    -- Open vocabulary: prd, source_code, test_report and whatever else agents make.
    file_type       text        not null check (file_type <> ''),
    -- The columns below describe the current version; artifact_versions has them all.
    version         integer     not null check (version >= 1),
    -- Key of the content in the blob store, whichever store that is. The name is the architecture
    -- document's, from when the store could only be Google Cloud Storage.
    gcs_path        text        not null,
    sha256          text        not null check (sha256 ~ '^[0-9a-f]{64}$'),
    bytes           bigint      not null check (bytes >= 0),
    -- Kept here because a local folder cannot keep a content type beside a file.
    media_type      text        not null,
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    unique (tenant_id, id),
    -- The natural key: a second document of this name is a new version of the first.
    unique (project_id, file_name),
    foreign key (tenant_id, project_id) references velo.projects (tenant_id, id),
    foreign key (tenant_id, task_id) references velo.tasks (tenant_id, id)
);

create index artifacts_oldest on velo.artifacts (tenant_id, project_id, created_at, id);

create table velo.artifact_versions (
    id              uuid primary key,
    tenant_id       uuid        not null references velo.tenants (id),
    artifact_id     uuid        not null,
    version_number  integer     not null check (version_number >= 1),
    gcs_path        text        not null,
    sha256          text        not null check (sha256 ~ '^[0-9a-f]{64}$'),
    bytes           bigint      not null check (bytes >= 0),
    media_type      text        not null,
    -- The person who made this version; null when an agent did.
    created_by      uuid,
    -- How an agent made it: model, whether offline, hash of the prompt, run. Null for a person's.
    produced_by     jsonb,
    created_at      timestamptz not null default now(),
    unique (artifact_id, version_number),
    foreign key (tenant_id, artifact_id) references velo.artifacts (tenant_id, id),
    foreign key (tenant_id, created_by) references velo.users (tenant_id, id)
);

create table velo.artifact_comments (
    id              uuid primary key,
    tenant_id       uuid        not null references velo.tenants (id),
    artifact_id     uuid        not null,
    user_id         uuid        not null,
    -- Which text `line_number` counts in: lines move between versions.
    version_number  integer     not null,
    content         text        not null check (content <> ''),
    line_number     integer     check (line_number >= 1),
    created_at      timestamptz not null default now(),
    updated_at      timestamptz not null default now(),
    foreign key (tenant_id, artifact_id) references velo.artifacts (tenant_id, id),
    foreign key (artifact_id, version_number) references velo.artifact_versions (artifact_id, version_number),
    foreign key (tenant_id, user_id) references velo.users (tenant_id, id)
);

create index artifact_comments_oldest on velo.artifact_comments (tenant_id, artifact_id, created_at, id);

create table velo.agent_activities (
    id              uuid primary key,
    tenant_id       uuid        not null references velo.tenants (id),
    project_id      uuid        not null,
    task_id         uuid,
    agent_name      text        not null check (agent_name <> ''),
    agent_division  text        not null,
    action          text        not null check (action <> ''),
    status          text        not null
                    check (status in ('started', 'in_progress', 'completed', 'failed')),
    error_message   text,
    run_id          bigint,
    -- Not now(): several activities are written in one transaction and are told in their order.
    "timestamp"     timestamptz not null default clock_timestamp(),
    duration_ms     bigint      check (duration_ms >= 0),
    foreign key (tenant_id, project_id) references velo.projects (tenant_id, id),
    foreign key (tenant_id, task_id) references velo.tasks (tenant_id, id)
);

create index agent_activities_newest on velo.agent_activities (tenant_id, project_id, "timestamp" desc, id desc);

create table velo.usage_logs (
    id             uuid primary key,
    tenant_id      uuid           not null references velo.tenants (id),
    project_id     uuid,
    user_id        uuid,
    agent_name     text           not null check (agent_name <> ''),
    action_type    text           not null check (action_type <> ''),
    input_tokens   bigint         not null default 0 check (input_tokens >= 0),
    output_tokens  bigint         not null default 0 check (output_tokens >= 0),
    -- Derived, so that it cannot disagree with its two parts.
    tokens_used    bigint         not null generated always as (input_tokens + output_tokens) stored,
    -- Exact: sums of many small prices are compared with budgets. NaN counts as greater than any
    -- number and would spoil every sum.
    cost_usd       numeric(16, 8) not null default 0 check (cost_usd >= 0 and cost_usd <> 'NaN'),
    model          text           not null,
    -- Made by rules without any provider: such rows are never billed and never shown as a model's.
    offline        boolean        not null default false,
    run_id         bigint,
    -- One row for one call of a model, also when the step that made the call runs twice. Unique
    -- within a tenant, so that no tenant can occupy another's key.
    call_key       text           not null check (call_key <> ''),
    "timestamp"    timestamptz    not null default clock_timestamp(),
    unique (tenant_id, call_key),
    foreign key (tenant_id, project_id) references velo.projects (tenant_id, id),
    foreign key (tenant_id, user_id) references velo.users (tenant_id, id)
);

create index usage_logs_of_project on velo.usage_logs (tenant_id, project_id);

-- The tenant and the user of an installation without sign-in. The ids are constants of the code
-- (`LOCAL_TENANT`, `LOCAL_USER`): both sides know them without a look-up.
insert into velo.tenants (id, company_name, subdomain, plan_tier)
values ('00000000-0000-4000-8000-000000000001', 'Local', 'local', 'free');

insert into velo.users (id, tenant_id, email, display_name, role)
values ('00000000-0000-4000-8000-000000000002', '00000000-0000-4000-8000-000000000001',
        'local@localhost', 'Local user', 'admin');
